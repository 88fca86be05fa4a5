//! A configuration in outline: what `sluice plan` compares. Settings are told as fingerprints, so that it holds no secrets.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::{NodeAddress, ServiceName, Version};

/// Settings by the name of their section, each as a fingerprint of its values, which only the same version of Sluice makes alike.
pub type Settings = BTreeMap<String, String>;

/// A configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outline {
    /// Version of this document's shape.
    pub schema: u32,
    /// The version of Sluice that made the fingerprints.
    pub sluice: String,
    /// What concerns the whole proxy.
    pub settings: Settings,
    /// Of it, what only counts from the next start on.
    pub fixed: Settings,
    /// Listeners by name.
    pub listeners: BTreeMap<String, ListenerOutline>,
    /// Services by name.
    pub services: BTreeMap<ServiceName, ServiceOutline>,
}

/// A listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerOutline {
    /// The address, as configured.
    pub bind: String,
    /// The rest.
    pub settings: Settings,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceOutline {
    /// The file that defines it.
    pub source: PathBuf,
    /// The version that shall serve.
    pub release: Version,
    /// The nodes of each version.
    pub versions: BTreeMap<Version, Vec<NodeAddress>>,
    /// Which requests are its own.
    pub matches: Vec<String>,
    /// The rest.
    pub settings: Settings,
}
