//! What operators see and may ask for, as data: the JSON shapes of the admin API.
//!
//! `control` fills these, `admin` serves them, `cli` prints them; so they live below all three. There is no logic here
//! beyond the exit codes, which are one promise for every verb.

mod events;
mod halt;
mod happening;
mod history;
mod load;
mod measures;
mod outline;
mod report;
mod request;

pub use events::*;
pub use halt::*;
pub use happening::*;
pub use history::*;
pub use load::*;
pub use measures::*;
pub use outline::*;
pub use report::*;
pub use request::*;
