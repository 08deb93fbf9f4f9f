//! What the parts of a cluster are called.

use std::{fmt, str::FromStr};

use crate::Error;

/// A part of a cluster: `router-0`, `c2s-2`, `redis`, `postgres`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// Who is where.
    Redis,
    /// What lasts.
    Postgres,
    /// A router.
    Router(usize),
    /// An instance: client connections and sessions.
    C2s(usize),
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let unknown = || Error::Unknown(text.to_owned());
        let (kind, number) = match text {
            "redis" => return Ok(Self::Redis),
            "postgres" => return Ok(Self::Postgres),
            other => other.split_once('-').ok_or_else(unknown)?,
        };
        let number = number.parse().map_err(|_| unknown())?;
        let name = match kind {
            "router" => Self::Router(number),
            "c2s" => Self::C2s(number),
            _ => return Err(unknown()),
        };
        // `c2s-01` is nobody.
        if name.to_string() == text { Ok(name) } else { Err(unknown()) }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redis => f.write_str("redis"),
            Self::Postgres => f.write_str("postgres"),
            Self::Router(number) => write!(f, "router-{number}"),
            Self::C2s(number) => write!(f, "c2s-{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_and_nothing_else_is_one() {
        for name in [Name::Redis, Name::Postgres, Name::Router(1), Name::C2s(12)] {
            assert_eq!(name.to_string().parse::<Name>().unwrap(), name);
        }
        for text in ["", "redis-0", "c2s", "c2s-", "c2s-01", "c2s-+1", "C2s-0", "s2s-0", "router-1 "] {
            assert!(matches!(text.parse::<Name>(), Err(Error::Unknown(_))), "{text}");
        }
    }
}
