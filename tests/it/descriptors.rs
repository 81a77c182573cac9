//! The public contract does not change unnoticed: everything in `proto/` against a golden listing.

use prost_reflect::{
    Cardinality, DescriptorPool, EnumDescriptor, FieldDescriptor, MessageDescriptor,
};
use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/descriptors.txt");

#[test]
fn the_contract_is_the_golden_one() {
    let found = listing(&DescriptorPool::decode(skproxy::pb::DESCRIPTORS).unwrap());
    let golden = fs::read_to_string(GOLDEN).unwrap_or_default();
    if let Some(difference) = difference(&golden, &found) {
        let renewed = Path::new(env!("CARGO_TARGET_TMPDIR")).join("descriptors.txt");
        fs::write(&renewed, &found).unwrap();
        panic!(
            "the contract changed:\n{difference}\nA removed line breaks callers. If the change is \
             meant, look at `buf breaking` too, then:\n  cp {} {GOLDEN}",
            renewed.display()
        );
    }
}

#[test]
fn every_change_of_the_listing_is_told() {
    for (golden, found, expect) in [
        ("a\nb\n", "a\nb\n", None),
        ("a\nb\n", "a\n", Some("- b\n")),
        ("a\n", "a\nb\n", Some("+ b\n")),
        ("a = 1\n", "a = 2\n", Some("- a = 1\n+ a = 2\n")),
    ] {
        assert_eq!(difference(golden, found).as_deref(), expect);
    }
}

fn difference(golden: &str, found: &str) -> Option<String> {
    let lines = |text: &'static str, of: &BTreeSet<&str>, other: &BTreeSet<&str>| {
        of.difference(other).map(|line| format!("{text} {line}\n")).collect::<String>()
    };
    let (old, new) = (golden.lines().collect(), found.lines().collect());
    let told = lines("-", &old, &new) + &lines("+", &new, &old);
    (!told.is_empty()).then_some(told)
}

/// A line for everything that callers depend on; each line names its place in full, so that the
/// order of declarations does not matter.
fn listing(pool: &DescriptorPool) -> String {
    let ours = |name: &str| name.starts_with("skproxy.");
    let mut lines = BTreeSet::new();
    for message in pool.all_messages().filter(|message| ours(message.full_name())) {
        lines.extend(of_message(&message));
    }
    for values in pool.all_enums().filter(|values| ours(values.full_name())) {
        lines.extend(of_enum(&values));
    }
    for service in pool.services().filter(|service| ours(service.full_name())) {
        lines.insert(format!("service {}", service.full_name()));
        for method in service.methods() {
            let stream = |is: bool| if is { "stream " } else { "" };
            lines.insert(format!(
                "rpc {}({}{}) returns ({}{})",
                method.full_name(),
                stream(method.is_client_streaming()),
                method.input().full_name(),
                stream(method.is_server_streaming()),
                method.output().full_name(),
            ));
        }
    }
    lines.into_iter().fold(String::new(), |mut text, line| {
        writeln!(text, "{line}").expect("a string takes everything");
        text
    })
}

fn of_message(message: &MessageDescriptor) -> Vec<String> {
    let mut lines = vec![format!("message {}", message.full_name())];
    lines.extend(message.fields().map(|field| of_field(&field)));
    let numbers = message.reserved_ranges().map(|range| format!("{range:?}"));
    let names = message.reserved_names().map(|name| format!("{name:?}"));
    let reserved = numbers.chain(names);
    lines.extend(reserved.map(|what| format!("reserved {} {what}", message.full_name())));
    lines
}

fn of_field(field: &FieldDescriptor) -> String {
    let label = match field.cardinality() {
        Cardinality::Repeated => "repeated",
        Cardinality::Required => "required",
        Cardinality::Optional if field.supports_presence() => "optional",
        Cardinality::Optional => "singular",
    };
    let oneof = field.containing_oneof().map(|oneof| format!(" oneof {}", oneof.name()));
    format!(
        "field {} = {} {label} {:?}{}",
        field.full_name(),
        field.number(),
        field.kind(),
        oneof.unwrap_or_default()
    )
}

fn of_enum(values: &EnumDescriptor) -> Vec<String> {
    let mut lines = vec![format!("enum {}", values.full_name())];
    let value = |value: prost_reflect::EnumValueDescriptor| {
        format!("value {}.{} = {}", values.full_name(), value.name(), value.number())
    };
    lines.extend(values.values().map(value));
    lines
}
