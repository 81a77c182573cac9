//! Any bytes as an `<interface>` message, its content included: decoded or refused, and answered
//! either way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skproxy::legacy::{Answer, Content, decode_interface};

fuzz_target!(|bytes: &[u8]| {
    let (reply, answer) = match decode_interface(bytes) {
        Err(fault) => (*fault.reply, Answer::Refused(fault.refusal)),
        Ok(interface) => {
            let (Content::Plain(body) | Content::Cms(body)) = interface.content.clone();
            match interface.read(&body) {
                Ok(call) => (call.reply, Answer::InDoubt),
                Err(fault) => (*fault.reply, Answer::Refused(fault.refusal)),
            }
        }
    };
    drop(reply.print(&answer));
});
