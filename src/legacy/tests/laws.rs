//! Laws: whatever arrives, the decoders answer; they never panic and never loop.

use super::*;
use crate::legacy::Answer;
use proptest::prelude::*;

const GOOD: [&[u8]; 8] =
    [SERVER, COMPONENT, NESTED, FLAT, RARE, ENVELOPE, ENVELOPE_ZIPPED, ENVELOPE_OLDER];

/// Both decoders; whatever they refuse can be answered.
fn decode_both(bytes: &[u8]) {
    let interface = decode_interface(bytes).and_then(|opened| match opened.content.clone() {
        crate::legacy::Content::Plain(body) | crate::legacy::Content::Cms(body) => {
            opened.read(&body)
        }
    });
    for call in [decode_business(bytes), interface] {
        let answer = match call {
            Ok(call) => call.reply.print(&Answer::InDoubt),
            Err(fault) => fault.reply.print(&Answer::Refused(fault.refusal)),
        };
        drop(answer);
    }
}

proptest! {
    #[test]
    fn random_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        decode_both(&bytes);
    }

    #[test]
    fn random_text_within_a_frame_is_answered(text in "\\PC{0,200}") {
        decode_both(format!("<business id='10008'><body>{text}</body></business>").as_bytes());
        decode_both(format!("<interface><Data>{text}</Data></interface>").as_bytes());
    }

    #[test]
    fn cuts_and_flips_of_good_messages_are_answered(
        which in 0_usize..8, from in 0_usize..4_000, len in 0_usize..200,
        flips in proptest::collection::vec((0_usize..4_000, any::<u8>()), 0..4),
    ) {
        let mut bytes = GOOD[which].to_vec();
        for (at, value) in flips {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        let from = from % bytes.len();
        let until = (from + len).min(bytes.len());
        decode_both(&bytes);
        decode_both(&[&bytes[..from], &bytes[until..]].concat());
        decode_both(&bytes[from..until]);
    }

    #[test]
    fn random_content_of_an_envelope_is_answered(
        body in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        for good in [ENVELOPE, ENVELOPE_ZIPPED] {
            let answered = decode_interface(good).unwrap().read(&body);
            prop_assert!(answered.is_err());
        }
    }
}
