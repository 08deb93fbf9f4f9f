//! What processes say that they have done.

use std::collections::BTreeMap;

/// Numbers by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted(BTreeMap<String, u64>);

impl Counted {
    /// From `/metrics`: what is counted, without parts of a second, under names with labels as they are printed.
    pub(crate) fn metrics(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self(lines.filter_map(|line| line.rsplit_once(' ')).filter_map(Self::number).collect())
    }

    fn number((name, value): (&str, &str)) -> Option<(String, u64)> {
        Some((name.to_owned(), value.parse().ok()?))
    }

    /// From `INFO commandstats`: calls of each command.
    pub(crate) fn commands(text: &str) -> Self {
        let line = |line: &str| {
            let (name, values) = line.trim().strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Self::number((name, values.split_once(',')?.0))
        };
        Self(text.lines().filter_map(line).collect())
    }

    /// 0: it is not there.
    pub(crate) fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    fn since(&self, before: &Self) -> Self {
        let grown = |(name, value): (&String, &u64)| (name.clone(), value.saturating_sub(before.get(name)));
        Self(self.0.iter().map(grown).filter(|(_, value)| *value > 0).collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }
}

/// Of a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Counters {
    pub(crate) pods: Vec<Counted>,
    pub(crate) router: Counted,
    /// Commands that Redis has carried out, those within scripts included.
    pub(crate) redis: Counted,
}

impl Counters {
    /// How much each has grown. Values that go up and down mean nothing then.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let pods = self.pods.iter().zip(&before.pods).map(|(after, before)| after.since(before)).collect();
        Self { pods, router: self.router.since(&before.router), redis: self.redis.since(&before.redis) }
    }

    /// Over all instances.
    pub(crate) fn all_pods(&self, name: &str) -> u64 {
        self.pods.iter().map(|pod| pod.get(name)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read_by_their_names_and_subtracted() {
        let before = Counted::metrics("# HELP a_total What\na_total 3\nb_total{kind=\"iq\"} 1\nc_seconds_sum 0.25\n");
        assert_eq!((before.get("a_total"), before.get("b_total{kind=\"iq\"}"), before.get("c_seconds_sum")), (3, 1, 0));
        let after = Counted::metrics("a_total 10\nb_total{kind=\"iq\"} 1\nd_total 2\n");
        let grown = after.since(&before);
        assert_eq!(grown.iter().collect::<Vec<_>>(), [("a_total", 7), ("d_total", 2)]);
    }

    #[test]
    fn commands_are_read_as_redis_prints_them() {
        let text = "# Commandstats\r\ncmdstat_evalsha:calls=12,usec=1,usec_per_call=1.00,rejected_calls=0\r\n\
                    cmdstat_client|caching:calls=4,usec=2,usec_per_call=0.50\r\n";
        let commands = Counted::commands(text);
        assert_eq!(commands.iter().collect::<Vec<_>>(), [("client|caching", 4), ("evalsha", 12)]);
    }
}
