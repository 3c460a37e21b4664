//! The states of an image.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// The service's states of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ImageState {
    /// Known, not begun.
    Pending,
    /// Being set up.
    Creating,
    /// The build guest runs.
    Building,
    /// The output is booted and tested.
    Testing,
    /// Being delivered.
    Distributing,
    /// Being made known elsewhere.
    Integrating,
    /// Done.
    Available,
    /// Ended by a failure.
    Failed,
    /// Ended by the person.
    Cancelled,
    /// Done, and not to be used for anything new.
    Deprecated,
    /// Done, and not to be used.
    Disabled,
    /// Its files were removed.
    Deleted,
}

impl ImageState {
    /// All states.
    pub const ALL: [Self; 12] = [
        Self::Pending,
        Self::Creating,
        Self::Building,
        Self::Testing,
        Self::Distributing,
        Self::Integrating,
        Self::Available,
        Self::Failed,
        Self::Cancelled,
        Self::Deprecated,
        Self::Disabled,
        Self::Deleted,
    ];

    /// The service's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Creating => "CREATING",
            Self::Building => "BUILDING",
            Self::Testing => "TESTING",
            Self::Distributing => "DISTRIBUTING",
            Self::Integrating => "INTEGRATING",
            Self::Available => "AVAILABLE",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
            Self::Deprecated => "DEPRECATED",
            Self::Disabled => "DISABLED",
            Self::Deleted => "DELETED",
        }
    }

    /// Whether a process is at work on it.
    pub const fn is_running(self) -> bool {
        !matches!(
            self,
            Self::Available
                | Self::Failed
                | Self::Cancelled
                | Self::Deprecated
                | Self::Disabled
                | Self::Deleted
        )
    }

    /// Whether there is a finished image.
    pub const fn is_finished(self) -> bool {
        matches!(self, Self::Available | Self::Deprecated | Self::Disabled)
    }

    /// Whether an image in this state may get to another. What has ended stays ended; a finished image can be taken out of
    /// use and back; the files of all can go. (An attempt that is taken up again is the work of
    /// [`crate::store::Store::take_up_image`] alone.)
    pub const fn may_become(self, next: Self) -> bool {
        match next {
            Self::Deleted => !matches!(self, Self::Deleted),
            Self::Deprecated | Self::Disabled => self.is_finished(),
            Self::Available => self.is_running() || self.is_finished(),
            _ => self.is_running(),
        }
    }
}

impl fmt::Display for ImageState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ImageState {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| format!("unknown state `{text}`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_stays_ended() {
        use ImageState::{Available, Building, Cancelled, Deleted, Deprecated, Disabled, Failed};
        for (from, to, wanted) in [
            (Building, Available, true),
            (Building, Cancelled, true),
            (Building, Deprecated, false),
            (Available, Building, false),
            (Available, Failed, false),
            (Available, Deprecated, true),
            (Deprecated, Available, true),
            (Disabled, Deprecated, true),
            (Failed, Available, false),
            (Failed, Deleted, true),
            (Cancelled, Failed, false),
            (Deleted, Deleted, false),
            (Deleted, Available, false),
        ] {
            assert_eq!(from.may_become(to), wanted, "{from} to {to}");
        }
    }

    #[test]
    fn words_are_read_back() {
        for state in ImageState::ALL {
            assert_eq!(state.as_str().to_lowercase().parse(), Ok(state));
        }
        let error = "READY".parse::<ImageState>().unwrap_err();
        insta::assert_snapshot!(error, @"unknown state `READY`");
    }
}
