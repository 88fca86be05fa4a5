//! Which cohort a user belongs to: a place among [`Share::ALL`], and the cookie that holds it.
//!
//! The new version has the places at the end: it gets those from `ALL - share` on. So a share that grows moves users to it, and none back.
//!
//! The cookie holds a place and nothing else. Ten thousand of them are too few to know a user by, and whoever invents one gains
//! nothing but the other version; it is signed so that nobody moves others, or all of their requests, to the version on trial.

use aws_lc_rs::hmac::{self, HMAC_SHA256, Key};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::ring;
use crate::model::{ServiceName, Share};

/// First in every cookie: the version of its form.
const FORM: &str = "1";

/// Bytes of the signature that the cookie holds: with half of its bits it is still not to be found by trying.
const SIGNATURE: usize = 16;

/// What cookies are signed with.
#[derive(Clone, Debug)]
pub struct CohortKey(Key);

impl CohortKey {
    /// A key from these bytes.
    pub fn new(secret: &[u8]) -> Self {
        Self(Key::new(HMAC_SHA256, secret))
    }

    /// The value of the cookie that holds this place.
    pub fn sign(&self, service: &ServiceName, place: u32) -> String {
        let tag = hmac::sign(&self.0, &message(service, place));
        format!("{FORM}.{place}.{}", URL_SAFE_NO_PAD.encode(&tag.as_ref()[..SIGNATURE]))
    }

    /// The place that a cookie holds; none if it was not signed with this key for this service.
    pub fn verify(&self, service: &ServiceName, value: &[u8]) -> Option<u32> {
        // Longer ones are not ours: nothing is computed for them.
        let text = std::str::from_utf8(value).ok().filter(|text| text.len() <= 64)?;
        let (place, signature) = text.strip_prefix(FORM)?.strip_prefix('.')?.split_once('.')?;
        let well = !place.is_empty() && place.bytes().all(|byte| byte.is_ascii_digit());
        let place = place.parse().ok().filter(|place| well && *place < Share::ALL.0)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok().filter(|bytes| bytes.len() == SIGNATURE)?;
        let tag = hmac::sign(&self.0, &message(service, place));
        let same = aws_lc_rs::constant_time::verify_slices_are_equal(&tag.as_ref()[..SIGNATURE], &signature);
        same.is_ok().then_some(place)
    }
}

fn message(service: &ServiceName, place: u32) -> Vec<u8> {
    // The name comes last, so that no two services and places make the same message.
    let mut message = format!("sluice-cohort {FORM} {place} ").into_bytes();
    message.extend_from_slice(service.as_str().as_bytes());
    message
}

/// The place of whoever has this key. Each service deals anew: who goes first with one does not go first with all.
pub fn place_of(service: &ServiceName, key: u64) -> u32 {
    let mixed = ring::hash_with(key, service.as_str().as_bytes());
    ((u128::from(mixed) * u128::from(Share::ALL.0)) >> 64) as u32
}

/// The place at this point of 2^32.
pub fn place_at(point: u32) -> u32 {
    ((u64::from(point) * u64::from(Share::ALL.0)) >> 32) as u32
}

/// A point of 2^32 that lies at this place.
pub fn point_at(place: u32) -> u32 {
    // In its middle, so that no rounding leads out of it.
    (((u64::from(place.min(Share::ALL.0 - 1)) * 2 + 1) << 32) / (u64::from(Share::ALL.0) * 2)) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::balance::slice_at;
    use super::*;

    fn key() -> CohortKey {
        CohortKey::new(b"sixteen bytes or more")
    }

    #[test]
    fn a_cookie_holds_its_place_for_its_service_and_key_only() {
        let shop = ServiceName::new("shop");
        let cookie = key().sign(&shop, 9_741);
        assert!(cookie.len() < 40 && cookie.starts_with("1.9741."), "{cookie}");
        assert_eq!(key().verify(&shop, cookie.as_bytes()), Some(9_741));
        assert_eq!(key().verify(&ServiceName::new("blog"), cookie.as_bytes()), None);
        assert_eq!(CohortKey::new(b"another key, as long").verify(&shop, cookie.as_bytes()), None);
        for forged in ["", "1", "1.9741", "1.9741.", "2.9741.x", "1.9742", "1.+9741", "1.009741", "1.10000"] {
            let (_, signature) = cookie.rsplit_once('.').expect("three parts");
            assert_eq!(key().verify(&shop, forged.as_bytes()), None, "{forged}");
            let signed = format!("{forged}.{signature}");
            // Zeros in front are another spelling of the same place, which does no harm.
            let same = forged == "1.009741" || forged == "1.9741";
            assert_eq!(key().verify(&shop, signed.as_bytes()), same.then_some(9_741), "{signed}");
        }
        for index in 0..cookie.len() {
            let mut other = cookie.clone().into_bytes();
            other[index] = if other[index] == b'A' { b'B' } else { b'A' };
            assert_eq!(key().verify(&shop, &other), None, "{}", String::from_utf8_lossy(&other));
        }
    }

    proptest! {
        #[test]
        fn what_anybody_sends_is_no_cookie(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(key().verify(&ServiceName::new("shop"), &bytes), None);
        }

        #[test]
        fn a_place_and_its_point_are_the_same_place(place in 0u32..10_000, point: u32) {
            prop_assert_eq!(place_at(point_at(place)), place);
            prop_assert_eq!(place_at(point_at(place_at(point))), place_at(point));
        }

        #[test]
        fn a_growing_share_moves_each_user_once_and_a_rollback_moves_all_back(
            place in 0u32..10_000,
            steps in prop::collection::btree_set(0u32..=10_000, 1..20),
            old in 0u32..=10_000,
        ) {
            let mut moved = false;
            for share in &steps {
                // Two old versions, whatever the rest is to each: the version on trial is last.
                let rest = 10_000 - share;
                let part = rest * old / 10_000;
                let slice = slice_at(point_at(place), [Share(part), Share(rest - part), Share(*share)]);
                prop_assert!(slice == 2 || !moved, "back at {}", share);
                moved = slice == 2;
                prop_assert_eq!(moved, place >= rest);
            }
            prop_assert_eq!(slice_at(point_at(place), [Share::ALL, Share::NONE]), 0);
        }

        #[test]
        fn keys_are_dealt_evenly_and_anew_for_each_service(start: u64) {
            let (shop, blog) = (ServiceName::new("shop"), ServiceName::new("blog"));
            let keys = || (0..2_000).map(|number: u64| ring::hash(&(start.wrapping_add(number)).to_le_bytes()));
            let first = |name: &ServiceName| keys().filter(|key| place_of(name, *key) >= 9_000).count();
            prop_assert!((130..270).contains(&first(&shop)), "{}", first(&shop));
            let both = keys().filter(|key| place_of(&shop, *key) >= 9_000 && place_of(&blog, *key) >= 9_000).count();
            prop_assert!(both < 60, "{} of 200 are first twice", both);
        }
    }
}
