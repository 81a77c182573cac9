//! Return codes of tax servers and of what stands in front of them: code → class. One table; a code
//! that is not in it is in doubt.
//!
//! Invariant: no unknown code is ever taken for success, for "nothing was issued" or for a refusal.
//! Source: docs/domain.md 1.5, 3.10, 4.4 and (b), last column.

/// What a return code says of the request that it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Done.
    Success,
    /// The server knows no such thing; says nothing of a request that may be under way.
    Nothing,
    /// This serial has its invoice already: ask for it.
    AlreadyIssued,
    /// No number is left.
    NoNumbers,
    /// Busy; nothing was done, and later it may be.
    Transient,
    /// The session between server and device is gone; a new one may work.
    SessionLost,
    /// Refused for good: content, limits, locks, certificates.
    Permanent,
    /// A PIN is wrong or locked: every further try may burn one. Nothing may be sent before a
    /// person looked.
    PinLocked,
    /// It may or may not have been done.
    InDoubt,
}

/// A code, lower case and without `0x`, its class and what it means.
type Row = (&'static str, Class, &'static str);

const TABLE: &[Row] = &[
    // Front-end vendors (国信) and the Baiwang front platform.
    ("0001", Class::InDoubt, "being processed"),
    ("0002", Class::Nothing, "no data"),
    ("0009", Class::InDoubt, "failed, without a reason"),
    ("1002", Class::NoNumbers, "no number left"),
    ("1003", Class::Permanent, "the current number is wrong"),
    ("4000", Class::Permanent, "empty request"),
    ("4006", Class::InDoubt, "the call to the tax device failed"),
    ("4007", Class::AlreadyIssued, "issued already"),
    ("4100", Class::Permanent, "a field is wrong"),
    ("6655", Class::AlreadyIssued, "the serial is repeated"),
    ("6783", Class::AlreadyIssued, "the order exists"),
    ("8001", Class::Nothing, "never issued"),
    ("8009", Class::AlreadyIssued, "issued, but its layout file failed"),
    ("8010", Class::InDoubt, "disk error"),
    ("9001", Class::Nothing, "does not exist"),
    ("9007", Class::InDoubt, "failed while running"),
    ("9951", Class::AlreadyIssued, "the business number exists"),
    ("9952", Class::AlreadyIssued, "the serial exists"),
    ("9990", Class::AlreadyIssued, "the serial is repeated"),
    ("9996", Class::Permanent, "wrong format"),
    ("9997", Class::Permanent, "wrong data"),
    ("9998", Class::InDoubt, "device error"),
    ("9999", Class::InDoubt, "failed, without a reason"),
    // The component and device drivers.
    ("-101", Class::InDoubt, "failed, without a reason"),
    ("-10305", Class::Permanent, "the period is locked"),
    ("-10306", Class::Permanent, "above the limit of a single invoice"),
    ("-10308", Class::Permanent, "the kind is not approved"),
    ("-10310", Class::Permanent, "the rate is not authorised"),
    ("-10311", Class::Permanent, "the number is not the next one"),
    ("-10312", Class::Permanent, "the clock is wrong"),
    ("-10314", Class::Transient, "the device is in use"),
    ("-10315", Class::Permanent, "the seller is not the device's"),
    ("-10321", Class::Permanent, "text outside GBK"),
    ("-10322", Class::Permanent, "the taxpayer id is wrong"),
    ("-10324", Class::AlreadyIssued, "the serial is repeated"),
    ("-10326", Class::AlreadyIssued, "the serial is repeated"),
    ("-960001084", Class::Permanent, "the signature does not verify"),
    ("-960010000", Class::SessionLost, "the session is not valid"),
    ("-960032031", Class::PinLocked, "wrong PIN"),
    ("-960032032", Class::PinLocked, "the PIN is locked"),
    ("-960032033", Class::PinLocked, "another device is inserted"),
    // Certificates.
    ("97", Class::Permanent, "the certificate is revoked"),
    ("98", Class::Permanent, "the certificate is suspended"),
    ("103", Class::Permanent, "the certificate has expired"),
    // Tax disks (税控盘).
    ("09240d", Class::Permanent, "the security key must be updated"),
    ("0963c0", Class::PinLocked, "wrong PIN, no try left"),
    ("0963c1", Class::PinLocked, "wrong PIN, 1 try left"),
    ("0963c2", Class::PinLocked, "wrong PIN, 2 tries left"),
    ("0963c3", Class::PinLocked, "wrong PIN, 3 tries left"),
    ("0963c4", Class::PinLocked, "wrong PIN, 4 tries left"),
    ("0963c5", Class::PinLocked, "wrong PIN, 5 tries left"),
    ("0963c6", Class::PinLocked, "wrong PIN, 6 tries left"),
    ("0963c7", Class::PinLocked, "wrong PIN, 7 tries left"),
    ("09c000", Class::SessionLost, "the device is not open"),
    ("09d106", Class::Nothing, "no data"),
    ("09d108", Class::Permanent, "the code or number is not the device's"),
    ("09d109", Class::Permanent, "the issue deadline has passed"),
    ("09d110", Class::Permanent, "the kind is not supported"),
    ("09d11c", Class::Permanent, "reported already, so it cannot be voided"),
    ("09d11f", Class::Permanent, "offline for too many hours"),
    ("09d120", Class::Permanent, "too many offline invoices"),
    ("09d121", Class::Permanent, "the offline amount is used up"),
    ("09d122", Class::Permanent, "the upload deadline has passed"),
    ("09d200", Class::Nothing, "no data"),
    ("09e105", Class::Permanent, "the clock is wrong"),
];

/// The class of a return code and what it means.
#[must_use]
pub fn classify(code: &str) -> (Class, &'static str) {
    let code = code.trim();
    // Success is 0, 00, 0000 or 00000000, by the layer that speaks.
    if !code.is_empty() && code.bytes().all(|byte| byte == b'0') {
        return (Class::Success, "done");
    }
    let code = code.to_ascii_lowercase();
    let plain = code.strip_prefix("0x").unwrap_or(&code);
    let found = TABLE.iter().find(|(known, ..)| *known == plain);
    found.map_or((Class::InDoubt, "not known here"), |(_, class, meaning)| (*class, meaning))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole table once more, by class, so that a row that moves is seen.
    const EXPECT: &[(Class, &[&str])] = &[
        (Class::Success, &["0", "00", "0000", "00000000", " 0000 "]),
        (Class::Nothing, &["0002", "8001", "9001", "09d106", "0x09D106", "09d200"]),
        (
            Class::AlreadyIssued,
            &["4007", "6655", "6783", "8009", "9951", "9952", "9990", "-10324", "-10326"],
        ),
        (Class::NoNumbers, &["1002"]),
        (Class::Transient, &["-10314"]),
        (Class::SessionLost, &["-960010000", "09c000", "0x09C000"]),
        (
            Class::Permanent,
            &[
                "1003",
                "4000",
                "4100",
                "9996",
                "9997",
                "-10305",
                "-10306",
                "-10308",
                "-10310",
                "-10311",
                "-10312",
                "-10315",
                "-10321",
                "-10322",
                "-960001084",
                "97",
                "98",
                "103",
                "09240d",
                "09d108",
                "09d109",
                "09d110",
                "09d11c",
                "09d11f",
                "09d120",
                "09d121",
                "09d122",
                "09e105",
            ],
        ),
        (
            Class::PinLocked,
            &[
                "-960032031",
                "-960032032",
                "-960032033",
                "0963c0",
                "0963c1",
                "0963c2",
                "0963c3",
                "0963c4",
                "0963c5",
                "0963c6",
                "0963c7",
                "0x0963C7",
            ],
        ),
        (
            Class::InDoubt,
            &[
                "0001",
                "0009",
                "4006",
                "8010",
                "9007",
                "9998",
                "9999",
                "-101",
                "",
                " ",
                "1",
                "01",
                "12345",
                "ok",
                "0x",
                "-0",
                "0x0",
                "0963c8",
                "0.0",
                "９９９７",
            ],
        ),
    ];

    #[test]
    fn each_code_has_its_class_and_an_unknown_one_is_in_doubt() {
        for (class, codes) in EXPECT {
            for code in *codes {
                let found = classify(code);
                // `0x0` is a zero that no layer writes.
                assert_eq!(found.0, *class, "{code:?}: {}", found.1);
            }
        }
    }

    #[test]
    fn each_row_of_the_table_is_tested_and_stands_there_once() {
        let tested: Vec<_> = EXPECT.iter().flat_map(|(_, codes)| codes.iter()).collect();
        for (at, (code, ..)) in TABLE.iter().enumerate() {
            assert!(tested.contains(&code), "{code}");
            assert!(TABLE.iter().skip(at + 1).all(|(other, ..)| other != code), "{code} twice");
            assert_eq!(*code, code.to_ascii_lowercase());
        }
    }
}
