//! The labels of a namespace.

use std::fmt;

use cloudeck_machinery::{Cause, CauseType, Value};

const PREFIX: &str = "pod-security.kubernetes.io/";

/// From lax to strict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Level {
    #[default]
    Privileged,
    Baseline,
    Restricted,
}

/// Which edition of the standards: that of Kubernetes 1.`minor`, or the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Version {
    #[default]
    Latest,
    Minor(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct LevelVersion {
    pub(super) level: Level,
    pub(super) version: Version,
}

/// What a namespace demands of its pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Policy {
    pub(super) enforce: LevelVersion,
    pub(super) audit: LevelVersion,
    pub(super) warn: LevelVersion,
}

impl Policy {
    /// Reads the labels. A bad `enforce` counts as the strictest level, a bad `audit` or `warn` as none.
    pub(super) fn of(namespace: &Value) -> (Self, Vec<Cause>) {
        let mut labels = Labels {
            namespace,
            errors: Vec::new(),
        };
        let enforce_level = labels.level("enforce");
        let enforce_version = labels.version("enforce-version");
        let audit_level = labels.level("audit");
        let audit_version = labels.version("audit-version");
        let warn_level = labels.level("warn");
        let warn_version = labels.version("warn-version");
        let mode = |level: LevelLabel, on_error: Level, version: Option<Version>| LevelVersion {
            level: match level {
                LevelLabel::Absent => Level::Privileged,
                LevelLabel::Bad => on_error,
                LevelLabel::Good(level) => level,
            },
            version: version.unwrap_or_default(),
        };
        let mut policy = Self {
            enforce: mode(enforce_level, Level::Restricted, enforce_version),
            audit: mode(audit_level, Level::Privileged, audit_version),
            warn: mode(warn_level, Level::Privileged, warn_version),
        };
        // Who enforces without a word on warnings is warned, too.
        if let (LevelLabel::Absent, LevelLabel::Good(level)) = (warn_level, enforce_level)
            && level > policy.warn.level
        {
            policy.warn = LevelVersion {
                level,
                version: warn_version.unwrap_or(policy.enforce.version),
            };
        }
        (policy, labels.errors)
    }

    pub(super) fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn]
            .iter()
            .all(|mode| mode.level == Level::Privileged)
    }
}

#[derive(Clone, Copy)]
enum LevelLabel {
    Absent,
    Bad,
    Good(Level),
}

/// Reads one label after another, in upstream's order.
struct Labels<'a> {
    namespace: &'a Value,
    errors: Vec<Cause>,
}

impl<'a> Labels<'a> {
    fn text(&self, name: &str) -> Option<&'a str> {
        self.namespace
            .str_at(&["metadata", "labels", &format!("{PREFIX}{name}")])
    }

    fn level(&mut self, name: &str) -> LevelLabel {
        let Some(text) = self.text(name) else {
            return LevelLabel::Absent;
        };
        if let Some(level) = Level::parse(text) {
            return LevelLabel::Good(level);
        }
        self.errors.push(invalid(
            name,
            text,
            "must be one of privileged, baseline, restricted",
        ));
        LevelLabel::Bad
    }

    /// A bad one counts as the newest.
    fn version(&mut self, name: &str) -> Option<Version> {
        let text = self.text(name)?;
        let version = Version::parse(text);
        if version.is_none() {
            self.errors
                .push(invalid(name, text, "must be \"latest\" or \"v1.x\""));
        }
        Some(version.unwrap_or_default())
    }
}

fn invalid(name: &str, value: &str, why: &str) -> Cause {
    Cause {
        cause: CauseType::Invalid,
        message: format!("Invalid value: \"{value}\": {why}"),
        field: format!("metadata.labels[{PREFIX}{name}]"),
    }
}

impl Level {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "privileged" => Some(Self::Privileged),
            "baseline" => Some(Self::Baseline),
            "restricted" => Some(Self::Restricted),
            _ => None,
        }
    }
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        if text == "latest" {
            return Some(Self::Latest);
        }
        let minor = text.strip_prefix("v1.")?;
        let canonical = minor == "0" || !minor.starts_with('0');
        let digits = !minor.is_empty() && minor.bytes().all(|byte| byte.is_ascii_digit());
        if canonical && digits {
            minor.parse().ok().map(Self::Minor)
        } else {
            None
        }
    }

    /// Whether a rule that came with 1.`minor` is in this edition.
    pub(super) fn has(self, minor: u32) -> bool {
        match self {
            Self::Latest => true,
            Self::Minor(mine) => mine >= minor,
        }
    }
}

impl fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.version {
            Version::Latest => write!(f, "{level}:latest"),
            Version::Minor(minor) => write!(f, "{level}:v1.{minor}"),
        }
    }
}
