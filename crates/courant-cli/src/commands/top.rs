//! `courant top`: a server, looked at again and again.

mod look;
mod rows;
mod scrape;
mod screen;

use self::look::Look;
use self::screen::Screen;
use super::api;
use crate::cli::{Global, Top};
use crate::exit::{Exit, Failure};
use crate::output::Format;
use courant_server::ApiClient;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Looks follow each other no faster.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Watches a server until the user has enough.
pub(super) async fn run(global: &Global, args: &Top) -> Result<Exit, Failure> {
    let server = api::client(global, &args.http)?;
    if args.once {
        let look = look(&server).await?;
        return once(Format::or_default(global.output), &look, &server.url().to_string());
    }
    if !io::stdout().is_terminal() {
        let sentence = "stdout is no terminal that could be drawn on; --once looks once";
        return Err(Failure::new(Exit::Usage, sentence));
    }
    watch(&server, args.interval.max(INTERVAL_MIN)).await
}

async fn look(server: &ApiClient) -> Result<Look, Failure> {
    let page = server.metrics().await.map_err(|error| api::failed(&error))?;
    Look::of(&page).ok_or_else(|| {
        let sentence =
            format!("{}/metrics has no figures of Courant; --http-url names a server", server.url());
        Failure::new(Exit::Failed, sentence)
    })
}

fn once(format: Format, look: &Look, base: &str) -> Result<Exit, Failure> {
    let text = match format {
        Format::Table => look.lines(base, None).join("\n"),
        Format::Json => json(serde_json::to_string_pretty(look))?,
        Format::Jsonl => json(serde_json::to_string(look))?,
    };
    writeln!(io::stdout().lock(), "{text}").map_err(|error| Failure::output(&error))?;
    Ok(Exit::Ok)
}

fn json(written: serde_json::Result<String>) -> Result<String, Failure> {
    written.map_err(|error| Failure::new(Exit::Failed, format!("the figures cannot be written: {error}")))
}

/// Draws until the command is dropped.
async fn watch(server: &ApiClient, interval: Duration) -> Result<Exit, Failure> {
    // A server that is not there at the beginning is somebody's mistake; later on it comes back.
    let (mut shown, mut seen) = (look(server).await?, Instant::now());
    let (screen, base) = (Screen::enter()?, server.url().to_string());
    let mut away = None;
    loop {
        let size = screen.size();
        let mut lines = shown.lines(&base, Some(size.rows));
        if let Some(why) = &away {
            lines.insert(0, format!("{why}; this is {} s old", seen.elapsed().as_secs()));
        }
        screen.show(&lines, size)?;
        tokio::time::sleep(interval).await;
        match look(server).await {
            Ok(mut now) => {
                now.compare(&shown, seen.elapsed());
                (shown, seen, away) = (now, Instant::now(), None);
            }
            Err(failure) => away = Some(failure.sentence),
        }
    }
}
