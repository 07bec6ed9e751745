//! Medians and ratios of what was measured, as a table in Markdown.

use std::fmt;

use scxlab_protocol::{Cost, Lookups, Tids};

/// What is measured: a name, and what one takes.
type Quantity = (&'static str, fn(&Cost) -> Option<f64>);

const QUANTITIES: [Quantity; 4] = [
    ("a lookup that finds its task", |cost| Some(lookup(cost.lookups.as_ref()?, true))),
    ("a lookup that finds nothing", |cost| Some(lookup(cost.lookups.as_ref()?, false))),
    ("a process: fork, exit, wait", |cost| Some(cost.processes.each())),
    ("a thread: create, exit, join", |cost| Some(cost.threads.each())),
];

/// Less what the loop does besides.
fn lookup(lookups: &Lookups, hit: bool) -> f64 {
    let looked = if hit { lookups.hits } else { lookups.misses };
    looked.each() - lookups.nothing.each()
}

/// A line for each quantity.
#[derive(Debug)]
pub struct Table(Vec<Line>);

#[derive(Debug)]
struct Line {
    name: &'static str,
    /// For each of [`Tids::ALL`].
    medians: [Option<f64>; 4],
    ratios: Ratios,
}

/// Portable to native, of each round.
#[derive(Debug, PartialEq)]
struct Ratios {
    least: f64,
    median: f64,
    most: f64,
}

impl Table {
    /// Of all rounds.
    ///
    /// # Errors
    /// There is no whole round, or a lookup took no longer than the loop around it.
    pub fn new(costs: &[Cost]) -> Result<Self, String> {
        let lines = QUANTITIES.iter().map(|quantity| Line::new(costs, quantity));
        Ok(Self(lines.collect::<Result<_, _>>()?))
    }
}

impl Line {
    fn new(costs: &[Cost], &(name, each): &Quantity) -> Result<Self, String> {
        let of = |tids: Tids| costs.iter().filter(move |cost| cost.tids == tids);
        let medians = Tids::ALL.map(|tids| median(of(tids).filter_map(each).collect()));
        let ratio = |portable: &Cost| {
            let native = of(Tids::Native).find(|native| native.round == portable.round)?;
            Some((each(portable)?, each(native)?))
        };
        let pairs: Vec<_> = of(Tids::Portable).filter_map(ratio).collect();
        if pairs.iter().any(|&(portable, native)| portable <= 0.0 || native <= 0.0) {
            return Err(format!("{name}: no longer than nothing; more lookups or forks may help"));
        }
        let mut ratios: Vec<f64> =
            pairs.iter().map(|(portable, native)| portable / native).collect();
        ratios.sort_by(f64::total_cmp);
        let (Some(&least), Some(&most), Some(median)) =
            (ratios.first(), ratios.last(), median(ratios.clone()))
        else {
            return Err(format!("{name}: not measured with both kinds of tids"));
        };
        Ok(Self { name, medians, ratios: Ratios { least, median, most } })
    }
}

/// Nothing if there are no values.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (below, above) = (values.len().checked_sub(1)? / 2, values.len() / 2);
    Some((values[below] + values[above]) / 2.0)
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| | no scheduler | no tids | native | portable | portable / native (least to most) |"
        )?;
        writeln!(f, "| --- | --: | --: | --: | --: | --- |")?;
        for Line { name, medians, ratios } in &self.0 {
            write!(f, "| {name} |")?;
            for median in medians {
                match median {
                    Some(ns) => write!(f, " {ns:.0} |")?,
                    None => write!(f, " |")?,
                }
            }
            let Ratios { least, median, most } = ratios;
            writeln!(f, " **{median:.2}** ({least:.2} to {most:.2}) |")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use scxlab_protocol::Timed;

    use super::*;

    fn cost(round: u32, tids: Tids, hit_ns: u64, fork_ns: u64) -> Cost {
        let timed = |ns| Timed { batches: 1, times: 10, ns: 10 * ns };
        let lookups = Lookups { nothing: timed(5), hits: timed(hit_ns + 5), misses: timed(6) };
        let with = matches!(tids, Tids::Native | Tids::Portable);
        let (processes, threads) = (timed(fork_ns), timed(100));
        Cost { round, tids, lookups: with.then_some(lookups), processes, threads }
    }

    #[test]
    fn medians_of_rounds_and_ratios_within_them() {
        let costs = [
            cost(0, Tids::Off, 0, 90),
            cost(0, Tids::Native, 10, 100),
            cost(0, Tids::Portable, 20, 150),
            cost(1, Tids::Portable, 40, 100),
            cost(1, Tids::Native, 10, 100),
            // A round that the machine was slow in.
            cost(2, Tids::Native, 100, 1000),
            cost(2, Tids::Portable, 300, 1200),
        ];
        let table = Table::new(&costs).unwrap();
        let [hits, misses, processes, threads] = &table.0[..] else { panic!("{table}") };
        assert_eq!(hits.medians, [None, None, Some(10.0), Some(40.0)]);
        assert_eq!(hits.ratios, Ratios { least: 2.0, median: 3.0, most: 4.0 });
        assert_eq!(misses.ratios, Ratios { least: 1.0, median: 1.0, most: 1.0 });
        assert_eq!(processes.medians, [None, Some(90.0), Some(100.0), Some(150.0)]);
        assert_eq!(processes.ratios, Ratios { least: 1.0, median: 1.2, most: 1.5 });
        assert_eq!(threads.medians[2], Some(100.0));
        let line = "| a lookup that finds its task | | | 10 | 40 | **3.00** (2.00 to 4.00) |";
        assert_eq!(table.to_string().lines().nth(2), Some(line));
    }

    #[test]
    fn what_was_not_measured_has_no_ratio() {
        for costs in [vec![], vec![cost(0, Tids::Native, 1, 1), cost(1, Tids::Portable, 1, 1)]] {
            let error = Table::new(&costs).unwrap_err();
            assert!(error.contains("not measured with both"), "{error}");
        }
        let none = [cost(0, Tids::Native, 0, 1), cost(0, Tids::Portable, 1, 1)];
        let error = Table::new(&none).unwrap_err();
        assert!(error.contains("no longer than nothing"), "{error}");
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
    }
}
