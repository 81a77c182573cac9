//! Any bytes as a `<business>` message: decoded or refused, and answered either way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skproxy::legacy::{Answer, decode_business};

fuzz_target!(|bytes: &[u8]| {
    let (reply, answer) = match decode_business(bytes) {
        Ok(call) => (call.reply, Answer::InDoubt),
        Err(fault) => (*fault.reply, Answer::Refused(fault.refusal)),
    };
    drop(reply.print(&answer));
});
