//! Printing: text for people, one JSON value for programs. Messages of the contract become
//! canonical proto3 JSON through their descriptors.

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value;
use std::{
    io::{IsTerminal as _, Write as _},
    sync::OnceLock,
};

/// How a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// One JSON value on stdout
    Json,
}

/// Whether stderr is a terminal.
#[must_use]
pub fn stderr_is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// Prints a line of data and flushes, so that a program on the other end of a pipe sees it at once.
///
/// # Errors
/// When stdout is closed.
pub fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()).context("write to stdout")
}

/// Prints one JSON value.
///
/// # Errors
/// When stdout is closed.
pub fn say_json(value: &Value) -> Result<()> {
    say(&format!("{value:#}"))
}

/// Text that a caller supplied, without control characters, for a terminal.
#[must_use]
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| {
        DescriptorPool::decode(crate::pb::DESCRIPTORS).expect("the descriptors are our own build's")
    })
}

/// A message as JSON. `name` is its full name, for example `skproxy.v1.Outcome`. `names` says
/// how fields are spelled.
///
/// # Errors
/// When the message is not of that name.
pub fn to_json(name: &str, message: &impl Message, names: Names) -> Result<Value> {
    let descriptor = pool().get_message_by_name(name).context("no such message")?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())?;
    let options = SerializeOptions::new()
        .use_proto_field_name(names == Names::Proto)
        .skip_default_fields(names == Names::Canonical);
    Ok(dynamic.serialize_with_options(serde_json::value::Serializer, &options)?)
}

/// How fields are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// lowerCamelCase; empty fields are left out.
    Canonical,
    /// As in the proto files; empty fields are shown.
    Proto,
}

/// Reads a message from proto3 JSON; both spellings of field names are understood.
///
/// # Errors
/// When the text is no JSON, or not of that message; the error names the place.
pub fn from_json<M: Message + Default>(name: &str, text: &str) -> Result<M> {
    let descriptor = pool().get_message_by_name(name).context("no such message")?;
    let mut json = serde_json::Deserializer::from_str(text);
    let dynamic = DynamicMessage::deserialize(descriptor, &mut json)?;
    json.end()?;
    Ok(dynamic.transcode_to()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{contract::sample, pb::v1};

    #[test]
    fn a_message_goes_to_json_and_back_in_either_spelling() {
        let draft = sample::draft("S1", sample::SELLER);
        for names in [Names::Canonical, Names::Proto] {
            let json = to_json("skproxy.v1.InvoiceDraft", &draft, names).unwrap();
            let back: v1::InvoiceDraft =
                from_json("skproxy.v1.InvoiceDraft", &json.to_string()).unwrap();
            assert_eq!(back, draft, "{names:?}");
        }
    }

    #[test]
    fn json_of_another_shape_says_where() {
        let wrong = from_json::<v1::InvoiceDraft>("skproxy.v1.InvoiceDraft", r#"{"serail": "x"}"#);
        assert!(wrong.unwrap_err().to_string().contains("serail"));
        assert!(from_json::<v1::InvoiceDraft>("skproxy.v1.InvoiceDraft", "{} {}").is_err());
    }

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        assert_eq!(plain("a\u{1b}[31m票\n"), "a\u{fffd}[31m票\u{fffd}");
    }
}
