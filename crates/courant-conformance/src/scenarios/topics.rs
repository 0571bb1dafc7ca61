//! Topics: made once, described as they are, refused with a sentence.

use courant_engine::{CreateTopicError, NewTopic};

use crate::failure::{ensure, ensure_eq};
use crate::stage::only;
use crate::{Outcome, Stage};

pub(super) async fn a_topic_has_the_partitions_that_were_asked_for(stage: &Stage) -> Outcome {
    let name = stage.name()?;
    let created = stage.create(&name, 3).await?;
    ensure_eq!((&*created.name, created.partitions), (name.as_str(), 3), "the topic");
    let found = only(stage.engine().topics(vec![name]).await?)?;
    ensure_eq!(found, Some(created), "the topic, when it is asked for");
    Ok(())
}

pub(super) async fn a_topic_that_is_there_is_not_made_again(stage: &Stage) -> Outcome {
    let name = stage.name()?;
    let first = stage.create(&name, 2).await?;
    let again = only(stage.engine().create_topics(vec![NewTopic::new(name.clone(), 5)]).await)?;
    ensure!(matches!(&again, Err(CreateTopicError::Exists { .. })), "the second time it says {again:?}");
    ensure_eq!(only(stage.engine().topics(vec![name]).await?)?, Some(first), "the topic");
    Ok(())
}

pub(super) async fn what_is_not_there_is_nothing(stage: &Stage) -> Outcome {
    let ground = stage.topic(1).await?;
    let found = stage.engine().topics(vec![stage.name()?, ground.name, stage.name()?]).await?;
    let there: Vec<bool> = found.iter().map(Option::is_some).collect();
    ensure_eq!(there, [false, true, false], "which topics are there");
    Ok(())
}

pub(super) async fn a_topic_without_partitions_is_refused(stage: &Stage) -> Outcome {
    let name = stage.name()?;
    let answer = only(stage.engine().create_topics(vec![NewTopic::new(name.clone(), 0)]).await)?;
    ensure!(matches!(&answer, Err(CreateTopicError::Refused { .. })), "it was answered with {answer:?}");
    ensure_eq!(only(stage.engine().topics(vec![name]).await?)?, None, "the topic");
    Ok(())
}

pub(super) async fn each_topic_has_an_id_of_its_own(stage: &Stage) -> Outcome {
    let (one, other) = (stage.create(&stage.name()?, 1).await?, stage.create(&stage.name()?, 1).await?);
    ensure!(one.id != other.id, "two topics have the id {}", one.id);
    Ok(())
}

pub(super) async fn a_config_that_nobody_knows_is_refused(stage: &Stage) -> Outcome {
    let topic = NewTopic::new(stage.name()?, 1).with("retention.days", "1");
    let answer = only(stage.engine().create_topics(vec![topic]).await)?;
    ensure!(matches!(&answer, Err(CreateTopicError::Refused { .. })), "it was answered with {answer:?}");
    Ok(())
}

/// Without configs of its own. What less an engine can promise in a topic is for its own tests to try.
pub(super) async fn a_topic_promises_what_the_engine_does(stage: &Stage) -> Outcome {
    let name = stage.name()?;
    stage.create(&name, 1).await?;
    let found = only(stage.engine().topics(vec![name]).await?)?;
    let survives = found.map(|topic| topic.durability);
    ensure_eq!(survives, Some(stage.engine().capabilities().durability), "what is survived in a topic");
    Ok(())
}
