//! The P-256 verifiers against the Wycheproof vectors: damaged encodings, edge values, forgeries.

use skproxy::{
    pb::v1::SignatureAlgorithm::EcdsaP256Sha256,
    signer::{verify, verify_independently},
};
use wycheproof::{TestResult, ecdsa};

#[test]
fn both_verifiers_of_p256_judge_every_wycheproof_vector_as_they_should() {
    let set = ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256r1Sha256).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    for group in &set.test_groups {
        for test in &group.tests {
            let accepted = [verify, verify_independently]
                .map(|verify| verify(EcdsaP256Sha256, &group.der, &test.msg, &test.sig));
            let what = format!("test {}: {} {:?}", test.tc_id, test.comment, test.flags);
            match test.result {
                TestResult::Valid => {
                    assert_eq!(accepted, [true; 2], "{what}");
                    valid += 1;
                }
                TestResult::Invalid => {
                    assert_eq!(accepted, [false; 2], "{what}");
                    invalid += 1;
                }
                TestResult::Acceptable => {}
            }
        }
    }
    assert!(valid > 100 && invalid > 100, "{valid} valid and {invalid} invalid vectors");
}
