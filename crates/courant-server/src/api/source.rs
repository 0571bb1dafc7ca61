//! JSON taken apart one level deep, as the source texts of its parts. What is not wanted takes no memory,
//! however many parts there are.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Members of an object. Of a name that comes twice the last one counts.
#[derive(Debug)]
pub(crate) struct Members<'a> {
    pub(crate) by_name: BTreeMap<String, &'a RawValue>,
    /// How many there are in the text, those that were left out among them.
    pub(crate) count: usize,
}

/// The first so many members of an object.
pub(crate) fn members(json: &[u8], max: usize) -> Result<Members<'_>, serde_json::Error> {
    taken_apart(json, FirstMembers(max))
}

/// Elements of an array.
#[derive(Debug)]
pub(crate) struct Elements<'a> {
    pub(crate) first: Vec<&'a RawValue>,
    /// How many there are in the text.
    pub(crate) count: usize,
}

/// The first so many elements of an array.
pub(crate) fn elements(json: &[u8], max: usize) -> Result<Elements<'_>, serde_json::Error> {
    taken_apart(json, FirstElements(max))
}

/// The member of that name, if the text is an object that has it.
pub(crate) fn member<'a>(json: &'a str, name: &str) -> Option<&'a RawValue> {
    taken_apart(json.as_bytes(), OneMember(name)).ok()?
}

/// The element at that place, if the text is an array that has it.
pub(crate) fn element(json: &str, index: usize) -> Option<&RawValue> {
    taken_apart(json.as_bytes(), OneElement(index)).ok()?
}

fn taken_apart<'a, S: DeserializeSeed<'a>>(json: &'a [u8], part: S) -> Result<S::Value, serde_json::Error> {
    let mut from = serde_json::Deserializer::from_slice(json);
    let found = part.deserialize(&mut from)?;
    from.end()?;
    Ok(found)
}

struct FirstMembers(usize);

impl<'de> DeserializeSeed<'de> for FirstMembers {
    type Value = Members<'de>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Members<'de>, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FirstMembers {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut found = Members { by_name: BTreeMap::new(), count: 0 };
        while let Some(name) = map.next_key::<String>()? {
            found.count += 1;
            if found.by_name.len() < self.0 || found.by_name.contains_key(&name) {
                found.by_name.insert(name, map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

struct FirstElements(usize);

impl<'de> DeserializeSeed<'de> for FirstElements {
    type Value = Elements<'de>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Elements<'de>, D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for FirstElements {
    type Value = Elements<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Elements<'de>, A::Error> {
        let mut found = Elements { first: Vec::new(), count: 0 };
        while found.first.len() < self.0 {
            let Some(element) = seq.next_element()? else { return Ok(found) };
            found.first.push(element);
            found.count += 1;
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {
            found.count += 1;
        }
        Ok(found)
    }
}

struct OneMember<'n>(&'n str);

impl<'de> DeserializeSeed<'de> for OneMember<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for OneMember<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_it) = map.next_key_seed(IsName(self.0))? {
            if is_it {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Whether a name is that one.
struct IsName<'n>(&'n str);

impl<'de> DeserializeSeed<'de> for IsName<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for IsName<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

struct OneElement(usize);

impl<'de> DeserializeSeed<'de> for OneElement {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for OneElement {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        for _ in 0..self.0 {
            if seq.next_element::<IgnoredAny>()?.is_none() {
                return Ok(None);
            }
        }
        let found = seq.next_element()?;
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_members_are_kept_and_all_are_counted() {
        let json = br#"{"b": 1 ,"a":{"x":[9007199254740993]},"c":"\u0041","b":2,"d":null}"#;
        let found = members(json, 2).expect("an object");
        let texts: Vec<_> = found.by_name.iter().map(|(name, value)| (name.as_str(), value.get())).collect();
        assert_eq!(texts, [("a", r#"{"x":[9007199254740993]}"#), ("b", "2")]);
        assert_eq!(found.count, 5);
        assert_eq!(members(b"{}", 2).expect("an object").count, 0);
        for bad in [&b"[1]"[..], b"{\"a\":1", b"{\"a\":1} 2", b"7", b"", b"{\"\xff\":1}"] {
            assert!(members(bad, 2).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn so_many_elements_are_kept_and_all_are_counted() {
        let found = elements(b"[1, [2,3] ,{}, 4]", 2).expect("an array");
        let texts: Vec<_> = found.first.iter().map(|value| value.get()).collect();
        assert_eq!((texts, found.count), (vec!["1", "[2,3]"], 4));
        assert_eq!(elements(b"[]", 2).expect("an array").count, 0);
        assert_eq!(elements(b"[1,2]", 2).expect("an array").count, 2);
        for bad in [&b"{}"[..], b"[1,", b"[1] 2", b"[1 2]"] {
            assert!(elements(bad, 2).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn one_part_is_found_by_its_name_or_its_place() {
        let text = |found: Option<&RawValue>| found.map(|found| found.get().to_owned());
        let object = r#"{"a":1,"\u00e4\"":{"b":2},"a":3}"#;
        assert_eq!(text(member(object, "a")).as_deref(), Some("3"));
        assert_eq!(text(member(object, "ä\"")).as_deref(), Some("{\"b\":2}"));
        assert_eq!((text(member(object, "b")), text(member("[1]", "0"))), (None, None));
        assert_eq!(text(element("[1, 2,3]", 1)).as_deref(), Some("2"));
        assert_eq!((text(element("[1]", 1)), text(element("{}", 0))), (None, None));
        assert_eq!(text(element("[1,2", 0)), None, "what is cut off is not JSON");
    }
}
