//! What a service does with its users while two of its versions serve: one file a matter. `guest`: which version a request belongs
//! to, by its cohort or as a preview; `shield`: what the version on trial fails is answered by the old one; `assets`: a 404 is asked of the
//! other version; `shadow`: copies for the version on trial.
//!
//! Without a version on trial a request pays one look at an `Option` for each of them.

mod assets;
mod guest;
mod shadow;
mod shield;

pub use assets::ask_other;
pub use guest::{Guest, conceal};
pub use shadow::{Shadows, copy};
pub use shield::{Watch, claim_old};
