//! Which test provokes which reason, and which reasons nothing provokes yet. A reason that is on
//! neither list, or on both, fails; so does a row whose test is gone or no longer names the reason.

use crate::refusal::Reason;
use std::{collections::BTreeSet, fs, path::Path};

/// (reason, file, test function): the test makes the proxy answer with the reason.
const PROVOKED: &[(Reason, &str, &str)] = &[
    (
        Reason::PlatformCertUnknown,
        "tests/it/refusals.rs",
        "a_caller_that_is_not_let_in_leaves_no_trace",
    ),
    (
        Reason::PlatformCertRevoked,
        "src/identity/mod.rs",
        "a_key_names_its_platform_while_it_is_good",
    ),
    (
        Reason::PlatformCertExpired,
        "src/identity/mod.rs",
        "a_key_names_its_platform_while_it_is_good",
    ),
    (Reason::PlatformSuspended, "src/numbering/laws/promises.rs", "expect"),
    (
        Reason::UploadIncomplete,
        "src/numbering/tests/monitor.rs",
        "a_receipt_with_nothing_to_write_back_frees_nothing_and_a_person_must_look",
    ),
    (Reason::SingleLimitExceeded, LIMITS, "each_limit_holds_to_the_fen_and_the_invoice"),
    (Reason::CumulativeLimitExceeded, LIMITS, "each_limit_holds_to_the_fen_and_the_invoice"),
    (Reason::OfflineCount, LIMITS, "each_limit_holds_to_the_fen_and_the_invoice"),
    (Reason::OfflineAmount, LIMITS, "each_limit_holds_to_the_fen_and_the_invoice"),
    (Reason::PeriodLocked, LIMITS, "each_lock_begins_at_its_second"),
    (Reason::OfflineTime, LIMITS, "each_lock_begins_at_its_second"),
    (Reason::UploadDeadline, LIMITS, "each_lock_begins_at_its_second"),
    (
        Reason::RedPeriod,
        "src/numbering/tests/monitor.rs",
        "a_red_letter_comes_in_time_and_on_the_device_that_issued",
    ),
    (
        Reason::OperationNotAllowed,
        GRANTS,
        "a_call_is_refused_when_its_operation_is_not_granted_and_no_other_is",
    ),
    (
        Reason::TaxpayerNotBound,
        "tests/it/refusals.rs",
        "a_caller_that_is_not_let_in_leaves_no_trace",
    ),
    (
        Reason::TaxpayerForbidden,
        GRANTS,
        "a_forbidden_taxpayer_issues_nothing_of_what_is_forbidden_until_it_is_allowed",
    ),
    (
        Reason::SessionLimit,
        "tests/it/streams.rs",
        "a_connection_takes_sixteen_streaming_calls_until_one_ends",
    ),
    (
        Reason::MalformedMessage,
        "tests/it/listener.rs",
        "broken_and_oversized_messages_are_refused_and_the_connection_lives",
    ),
    (Reason::SignatureInvalid, SIGNED, "what_the_caller_did_not_sign_as_it_is_is_refused"),
    (Reason::DigestMismatch, SIGNED, "what_the_caller_did_not_sign_as_it_is_is_refused"),
    (Reason::EncodingMismatch, LEGACY, "an_encoding_that_is_not_the_declared_one_is_refused"),
    (Reason::DuplicateField, LEGACY, "what_is_given_twice_is_refused"),
    (
        Reason::EncryptionUnsupported,
        LEGACY,
        "content_that_is_not_what_its_description_says_is_refused",
    ),
    (Reason::DecimalFormat, LEGACY, "amounts_that_are_not_exact_are_refused_and_never_rounded"),
    (Reason::DecimalPrecision, LEGACY, "amounts_that_are_not_exact_are_refused_and_never_rounded"),
    (
        Reason::TaxIncludedUnsupported,
        LEGACY,
        "amounts_that_are_not_exact_are_refused_and_never_rounded",
    ),
    (Reason::FieldMissing, TEXTS, "mandatory_fields_must_be_there"),
    (Reason::FieldInvalid, TEXTS, "codes_have_their_shape"),
    (Reason::FieldTooLong, TEXTS, "lengths_are_counted_in_gbk_bytes_up_to_the_limit"),
    (Reason::TextNotGbk, TEXTS, "text_outside_gbk_and_control_characters_are_refused"),
    (Reason::TaxpayerIdFormat, TEXTS, "taxpayer_ids_have_their_lengths_and_alphabet"),
    (Reason::TaxpayerIdChecksum, TEXTS, "the_buyer_s_check_character_counts_as_the_profile_says"),
    (Reason::SellerMismatch, TEXTS, "the_seller_is_the_device_s_taxpayer"),
    (Reason::KindNotApproved, TEXTS, "a_kind_must_be_approved_for_the_device"),
    (
        Reason::TaxCodeInvalid,
        "src/contract/tests/tax_codes.rs",
        "a_code_is_a_leaf_of_the_table_and_has_the_line_s_rate",
    ),
    (
        Reason::RateNotAuthorised,
        RATES,
        "a_rate_in_no_list_is_not_authorised_and_one_out_of_range_is_no_rate",
    ),
    (Reason::RateOutOfDate, RATES, "rates_change_on_the_day_of_their_notice"),
    (
        Reason::PreferenceInconsistent,
        RATES,
        "a_preference_has_a_text_of_the_list_and_nothing_else_has_one",
    ),
    (Reason::QuantityPricePair, MONEY, "quantity_and_price_come_together_as_plain_decimals"),
    (Reason::LineAmountMismatch, MONEY, "a_line_s_amount_is_quantity_times_price_within_one_fen"),
    (
        Reason::LineTaxMismatch,
        MONEY,
        "a_line_s_tax_is_amount_times_rate_within_the_profile_s_tolerance",
    ),
    (Reason::TotalAmountMismatch, MONEY, "totals_fit_the_lines_and_each_other"),
    (Reason::TotalTaxMismatch, MONEY, "totals_fit_the_lines_and_each_other"),
    (Reason::TotalSumMismatch, MONEY, "totals_fit_the_lines_and_each_other"),
    (Reason::AmountSign, MONEY, "blue_amounts_are_above_zero"),
    (Reason::DiscountLineOrder, MONEY, "a_discount_line_follows_its_line_and_looks_like_it"),
    (Reason::DiscountLineAmount, MONEY, "a_discount_is_negative_and_at_most_its_line"),
    (Reason::LineCount, KINDS, "an_invoice_has_as_many_lines_as_its_kind_allows"),
    (Reason::DifferentialRule, KINDS, "a_differential_remark_starts_with_its_deduction"),
    (Reason::SpecialKindRule, KINDS, "a_special_invoice_has_the_buyer_s_details_and_no_zero_rate"),
    (
        Reason::RedNoticeInvalid,
        RED,
        "special_kinds_have_a_red_notice_with_its_check_digit_and_others_have_none",
    ),
    (Reason::RedOriginalUnknown, REDS, "another_platform_s_blue_invoice_is_as_unknown_as_none"),
    (
        Reason::RedExceedsBalance,
        REDS,
        "reds_take_no_more_than_their_blue_invoice_also_after_a_crash",
    ),
    (Reason::RedAlreadyFull, REDS, "reds_take_no_more_than_their_blue_invoice_also_after_a_crash"),
    (Reason::RedOriginalMissing, RED, "a_red_invoice_names_a_blue_one_of_its_kind"),
    (
        Reason::RemarkInvalid,
        KINDS,
        "a_blue_remark_holds_no_reserved_phrase_and_no_blank_at_its_edges",
    ),
    (Reason::SerialConflict, "tests/it/daemon.rs", "a_serial_names_one_invoice_for_ever"),
    (
        Reason::SerialClosed,
        "src/numbering/tests/requests.rs",
        "an_unused_serial_is_closed_for_ever_and_a_bound_one_never",
    ),
    (
        Reason::NoNumbers,
        "tests/it/daemon.rs",
        "a_replay_meets_no_rule_and_an_empty_segment_spends_nothing",
    ),
    (
        Reason::SegmentOverlap,
        "tests/it/operators.rs",
        "every_command_answers_in_text_or_one_json_value_and_says_how_it_ended",
    ),
    (
        Reason::SeriesFrozen,
        "src/numbering/tests/devices.rs",
        "an_answer_that_does_not_match_freezes_the_series_and_is_not_released",
    ),
    (
        Reason::SeriesBacklog,
        "src/numbering/tests/limits.rs",
        "a_series_with_too_many_open_claims_takes_no_more_until_they_end",
    ),
    (
        Reason::ClockSkew,
        "src/numbering/tests/limits.rs",
        "a_clock_that_jumped_stamps_nothing_until_it_is_back",
    ),
    (
        Reason::SignerAnswerInvalid,
        "tests/it/devices.rs",
        "a_crypto_machine_signs_and_its_wrong_answer_freezes_the_series",
    ),
    (
        Reason::DeviceUnavailable,
        "tests/it/operators.rs",
        "a_disabled_device_takes_no_new_invoice_until_it_is_enabled",
    ),
    (
        Reason::DeviceAmbiguous,
        "tests/it/refusals.rs",
        "one_of_several_devices_for_a_kind_must_be_named",
    ),
    (
        Reason::VoidNotAllowed,
        "src/contract/void.rs",
        "an_electronic_invoice_is_voided_only_when_its_signing_failed",
    ),
    (
        Reason::NotIssued,
        "src/numbering/tests/devices.rs",
        "a_lost_request_is_released_after_the_quiescence_time_and_its_serial_is_free",
    ),
    (
        Reason::QrInvalid,
        "src/numbering/tests/codes.rs",
        "a_code_that_contradicts_its_invoice_freezes_the_series_where_the_profile_refuses_it",
    ),
    (
        Reason::QuotaExhausted,
        "src/numbering/laws/credits.rs",
        "an_invoice_beyond_the_quota_is_refused_until_a_void_or_a_grant_makes_room",
    ),
    (
        Reason::OriginInfoMissing,
        LEQI,
        "the_machine_that_asked_is_named_where_the_profile_asks_for_it",
    ),
    (
        Reason::RedConfirmationMissing,
        LEQI,
        "a_red_letter_names_its_confirmation_where_the_profile_asks_for_it",
    ),
    (
        Reason::ReconcileMismatch,
        "tests/it/claims.rs",
        "what_no_acceptance_side_holds_is_a_mismatch_and_one_incident_a_run",
    ),
    (
        Reason::AlreadyExists,
        "tests/it/operators.rs",
        "every_command_answers_in_text_or_one_json_value_and_says_how_it_ended",
    ),
    (
        Reason::NotFound,
        "tests/it/operators.rs",
        "every_command_answers_in_text_or_one_json_value_and_says_how_it_ended",
    ),
    (
        Reason::StoreFull,
        "src/numbering/tests/space.rs",
        "below_the_reserve_nothing_new_is_begun_and_a_bound_serial_is_answered",
    ),
    (
        Reason::StoreReadOnly,
        "src/numbering/tests/limits.rs",
        "a_read_only_store_refuses_everything_new_and_answers_what_it_knows",
    ),
    (
        Reason::BackupFailed,
        "tests/crash/backup.rs",
        "a_disk_that_is_full_of_the_copy_ends_the_backup_alone",
    ),
    (
        Reason::Overloaded,
        "src/admission/mod.rs",
        "calls_above_the_bound_are_told_later_until_one_ends",
    ),
    (
        Reason::Draining,
        "tests/it/streams.rs",
        "a_drain_answers_what_was_taken_and_takes_nothing_more",
    ),
    (
        Reason::NotBuilt,
        "tests/it/listener.rs",
        "broken_and_oversized_messages_are_refused_and_the_connection_lives",
    ),
    (
        Reason::Internal,
        "tests/it/listener.rs",
        "broken_and_oversized_messages_are_refused_and_the_connection_lives",
    ),
];

const GRANTS: &str = "tests/it/grants.rs";
const KINDS: &str = "src/contract/tests/kinds.rs";
const MONEY: &str = "src/contract/tests/money.rs";
const RATES: &str = "src/contract/tests/rates.rs";
const LEQI: &str = "src/contract/tests/leqi.rs";
const LEGACY: &str = "src/legacy/tests/bad_input.rs";
const RED: &str = "src/contract/tests/red.rs";
const REDS: &str = "tests/it/reds.rs";
const LIMITS: &str = "src/numbering/limits.rs";
const SIGNED: &str = "src/legacy/tests/ca.rs";
const TEXTS: &str = "src/contract/tests/texts.rs";

/// Reasons that nothing provokes yet, with what they wait for. Whoever builds one moves its row up.
const STILL_TO_COME: &[(Reason, &str)] = &[
    (Reason::PlatformCertSuspended, "accreditation"),
    (Reason::PlatformNotRegistered, "accreditation"),
    (Reason::StaleRequest, "accreditation"),
    (Reason::ReplayedRequest, "accreditation"),
    (Reason::RateLimited, "admission's rates"),
    (Reason::SerialInProgress, "nothing: in doubt is an outcome, never a refusal"),
    (Reason::NumberMismatch, "device signers"),
    (Reason::DevicePinLocked, "device signers"),
    (Reason::DeviceCertInvalid, "device signers"),
    (Reason::OutcomeUnknown, "nothing: in doubt is an outcome, never a refusal"),
];

#[test]
fn every_reason_is_provoked_by_a_test_or_still_to_come() {
    let provoked: BTreeSet<_> = PROVOKED.iter().map(|(reason, ..)| *reason).collect();
    let later: BTreeSet<_> = STILL_TO_COME.iter().map(|(reason, _)| *reason).collect();
    let both: Vec<_> = provoked.intersection(&later).collect();
    assert!(both.is_empty(), "provoked already, so take them off STILL_TO_COME: {both:?}");
    assert_eq!(later.len(), STILL_TO_COME.len(), "a reason waits once");
    let known: BTreeSet<_> = provoked.union(&later).collect();
    let neither: Vec<_> = Reason::ALL.iter().filter(|reason| !known.contains(reason)).collect();
    assert!(neither.is_empty(), "no test provokes {neither:?}");
}

#[test]
fn the_tests_that_provoke_a_reason_exist_and_name_it() {
    for (reason, file, test) in PROVOKED {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(text.contains(&format!("fn {test}(")), "{file} has no {test}");
        let variant = format!("{reason:?}");
        let word = |name: &str| {
            text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == name)
        };
        assert!(word(&variant) || word(reason.name()), "{file} does not name {reason}");
    }
}
