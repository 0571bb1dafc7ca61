//! What stands in `#[event(…)]` and `#[command(…)]`.

use syn::meta::ParseNestedMeta;
use syn::{Attribute, DeriveInput, Error, Ident, LitStr, Result};

use crate::names;

/// Which derive is at work.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Event,
    Command,
}

impl Kind {
    /// The attribute's name.
    pub(crate) fn attribute(self) -> &'static str {
        match self {
            Kind::Event => "event",
            Kind::Command => "command",
        }
    }

    fn example(self) -> &'static str {
        match self {
            Kind::Event => "#[event(type = \"shop.order-placed\", topic = \"shop.orders\", key = order_id)]",
            Kind::Command => {
                "#[command(type = \"shop.take-payment\", topic = \"shop.payments\", key = order_id, \
                 owner = \"payments\")]"
            }
        }
    }
}

/// What an event is about.
pub(crate) enum KeyChoice {
    Field(Ident),
    NoKey,
}

/// The attribute, complete and checked.
pub(crate) struct Described {
    pub(crate) type_name: LitStr,
    pub(crate) topic: LitStr,
    pub(crate) key: KeyChoice,
    pub(crate) owner: Option<LitStr>,
}

#[derive(Default)]
struct Parts {
    type_name: Option<LitStr>,
    topic: Option<LitStr>,
    key: Option<KeyChoice>,
    owner: Option<LitStr>,
}

/// Reads the attribute of `input`.
pub(crate) fn read(input: &DeriveInput, kind: Kind) -> Result<Described> {
    let mut found = input.attrs.iter().filter(|attribute| attribute.path().is_ident(kind.attribute()));
    let Some(attribute) = found.next() else {
        let said = format!("say what it is called and where it goes: {}", kind.example());
        return Err(Error::new(input.ident.span(), said));
    };
    if let Some(second) = found.next() {
        let said = format!("#[{}(…)] stands once: put everything into the first", kind.attribute());
        return Err(Error::new_spanned(second, said));
    }
    let mut parts = Parts::default();
    attribute.parse_nested_meta(|meta| parts.take(&meta, kind))?;
    parts.complete(attribute, kind)
}

impl Parts {
    fn take(&mut self, meta: &ParseNestedMeta<'_>, kind: Kind) -> Result<()> {
        let path = &meta.path;
        if path.is_ident("type") {
            let name: LitStr = meta.value()?.parse()?;
            names::check_type(&name)?;
            set(&mut self.type_name, name, meta)
        } else if path.is_ident("topic") {
            let name: LitStr = meta.value()?.parse()?;
            names::check_name("a topic", &name)?;
            set(&mut self.topic, name, meta)
        } else if path.is_ident("key") {
            let field: Ident = meta.value()?.parse()?;
            set(&mut self.key, KeyChoice::Field(field), meta)
        } else if path.is_ident("no_key") {
            set(&mut self.key, KeyChoice::NoKey, meta)
        } else if path.is_ident("owner") && kind == Kind::Command {
            let name: LitStr = meta.value()?.parse()?;
            names::check_name("a consumer", &name)?;
            set(&mut self.owner, name, meta)
        } else {
            let owner = if kind == Kind::Command { ", `owner`" } else { "" };
            Err(meta
                .error(format!("#[{}(…)] takes `type`, `topic`, `key` or `no_key`{owner}", kind.attribute())))
        }
    }

    fn complete(self, attribute: &Attribute, kind: Kind) -> Result<Described> {
        let missing = |what: &str| Error::new_spanned(attribute, what.to_owned());
        let type_name = self.type_name.ok_or_else(|| {
            missing("give it a name on the wire that outlives this type's: type = \"shop.order-placed\"")
        })?;
        let topic = self.topic.ok_or_else(|| missing("say where it goes: topic = \"shop.orders\""))?;
        let key = self.key.ok_or_else(|| {
            missing(
                "say what it is about: key = FIELD keeps the order of events with the same value there; \
                 no_key says that order does not matter",
            )
        })?;
        if kind == Kind::Command && self.owner.is_none() {
            return Err(missing("say which one consumer may handle it: owner = \"payments\""));
        }
        Ok(Described { type_name, topic, key, owner: self.owner })
    }
}

fn set<T>(slot: &mut Option<T>, value: T, meta: &ParseNestedMeta<'_>) -> Result<()> {
    if slot.is_some() {
        return Err(meta.error("this is said twice"));
    }
    *slot = Some(value);
    Ok(())
}

/// Refuses `#[personal]` wherever it stands: it would promise what is not kept.
pub(crate) fn refuse_personal<'a>(attributes: impl Iterator<Item = &'a Attribute>) -> Result<()> {
    let mut refused: Option<Error> = None;
    for attribute in attributes.filter(|attribute| attribute.path().is_ident("personal")) {
        let error = Error::new_spanned(
            attribute,
            "personal data cannot be protected yet: fields are stored in clear text, and #[personal] would \
             promise that they can be made unreadable. Keep personal data out of events until encryption \
             exists, and let the event carry an id of it",
        );
        match &mut refused {
            Some(first) => first.combine(error),
            None => refused = Some(error),
        }
    }
    refused.map_or(Ok(()), Err)
}
