//! A table of figures, what was asked of each, and the verdict. Measures nothing.

use std::fmt;

use serde_json::json;

use super::compare::shown;

/// What is asked of a figure, and what would be better still.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// No more than this.
    AtMost {
        /// What is asked.
        bound: f64,
        /// What would be better still.
        stretch: Option<f64>,
    },
    /// No less than this.
    AtLeast {
        /// What is asked.
        bound: f64,
        /// What would be better still.
        stretch: Option<f64>,
    },
    /// Nothing is asked; it is told.
    Told,
}

impl Bound {
    /// No more than `bound`.
    #[must_use]
    pub const fn at_most(bound: f64) -> Self {
        Self::AtMost { bound, stretch: None }
    }

    /// No less than `bound`.
    #[must_use]
    pub const fn at_least(bound: f64) -> Self {
        Self::AtLeast { bound, stretch: None }
    }

    /// Better still.
    #[must_use]
    pub const fn or_even(self, better: f64) -> Self {
        let stretch = Some(better);
        match self {
            Self::AtMost { bound, .. } => Self::AtMost { bound, stretch },
            Self::AtLeast { bound, .. } => Self::AtLeast { bound, stretch },
            Self::Told => Self::Told,
        }
    }

    fn judge(self, measured: f64) -> Verdict {
        let (held, stretched) = match self {
            Self::AtMost { bound, stretch } => {
                (measured <= bound, stretch.is_some_and(|best| measured <= best))
            }
            Self::AtLeast { bound, stretch } => {
                (measured >= bound, stretch.is_some_and(|best| measured >= best))
            }
            Self::Told => return Verdict::Told,
        };
        match (held, stretched) {
            (_, true) => Verdict::Stretched,
            (true, false) => Verdict::Held,
            (false, false) => Verdict::Missed,
        }
    }

    fn show(self, digits: usize) -> String {
        let (sign, bound, stretch) = match self {
            Self::AtMost { bound, stretch } => ("<=", bound, stretch),
            Self::AtLeast { bound, stretch } => (">=", bound, stretch),
            Self::Told => return "-".into(),
        };
        let stretch = stretch.map(|best| format!(" ({best:.digits$})")).unwrap_or_default();
        format!("{sign} {bound:.digits$}{stretch}")
    }
}

/// How a figure stands to what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Better than was asked.
    Stretched,
    /// As was asked.
    Held,
    /// Not as was asked.
    Missed,
    /// Nothing was asked.
    Told,
    /// It was not or could not be measured here.
    Open,
}

impl Verdict {
    /// In one or two words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stretched => "ok, stretch",
            Self::Held => "ok",
            Self::Missed => "MISSED",
            Self::Told => "told",
            Self::Open => "open",
        }
    }
}

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What it is.
    pub figure: String,
    /// What it is counted in.
    pub unit: &'static str,
    /// Digits behind the point that mean something.
    pub digits: usize,
    /// What is asked.
    pub bound: Bound,
    /// What was measured.
    pub measured: Option<f64>,
    /// Whether it could be measured as it should be; if not, there is no verdict.
    pub conclusive: bool,
    /// How it came about.
    pub note: String,
}

impl Row {
    /// A figure as it was measured.
    #[must_use]
    pub fn new(
        figure: impl Into<String>,
        (unit, digits): (&'static str, usize),
        bound: Bound,
        measured: Option<f64>,
    ) -> Self {
        let (figure, note) = (figure.into(), String::new());
        Self { figure, unit, digits, bound, measured, conclusive: true, note }
    }

    /// With how it came about.
    #[must_use]
    pub fn noted(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }

    /// Whether it could be measured as it should be.
    #[must_use]
    pub fn conclusive(self, conclusive: bool) -> Self {
        Self { conclusive, ..self }
    }

    /// How it stands.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self.measured.filter(|_| self.conclusive) {
            Some(measured) => self.bound.judge(measured),
            None => Verdict::Open,
        }
    }
}

/// Figures with their verdicts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// In the order in which they are shown.
    pub rows: Vec<Row>,
}

impl Table {
    /// Whether any figure is not as was asked.
    #[must_use]
    pub fn is_missed(&self) -> bool {
        self.rows.iter().any(|row| row.verdict() == Verdict::Missed)
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        let row = |row: &Row| {
            json!({
                "figure": row.figure,
                "unit": row.unit,
                "bound": row.bound.show(row.digits),
                "measured": row.measured,
                "verdict": row.verdict().name(),
                "note": row.note,
            })
        };
        self.rows.iter().map(row).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells = |row: &Row| {
            let unit = if row.unit == "x" { "x".into() } else { format!(" {}", row.unit) };
            let unit = if row.measured.is_some() { unit } else { String::new() };
            [
                row.figure.clone(),
                row.bound.show(row.digits),
                format!("{}{unit}", shown(row.measured, row.digits)),
                row.verdict().name().to_owned(),
                row.note.clone(),
            ]
        };
        let head = ["figure", "bound", "measured", "verdict", ""].map(str::to_owned);
        let lines: Vec<_> = std::iter::once(head).chain(self.rows.iter().map(cells)).collect();
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
        let widths: [usize; 4] = std::array::from_fn(|column| width(column).unwrap_or(0));
        for [figure, bound, measured, verdict, note] in &lines {
            let [a, b, c, d] = widths;
            let line = format!("{figure:<a$}  {bound:<b$}  {measured:>c$}  {verdict:<d$}  {note}");
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(bound: Bound, measured: f64) -> Verdict {
        Row::new("a", ("x", 1), bound, Some(measured)).verdict()
    }

    #[test]
    fn verdicts_follow_from_bounds() {
        let most = Bound::at_most(1.4).or_even(1.2);
        assert_eq!(verdict(most, 1.4), Verdict::Held);
        assert_eq!(verdict(most, 1.2), Verdict::Stretched);
        assert_eq!(verdict(most, 1.41), Verdict::Missed);
        let least = Bound::at_least(1_500.0).or_even(1_800.0);
        assert_eq!(verdict(least, 1_500.0), Verdict::Held);
        assert_eq!(verdict(least, 1_900.0), Verdict::Stretched);
        assert_eq!(verdict(least, 1_499.0), Verdict::Missed);
        assert_eq!(verdict(Bound::at_most(0.0), 0.0), Verdict::Held);
        assert_eq!(verdict(Bound::Told, 7.0), Verdict::Told);
    }

    #[test]
    fn what_was_not_measured_as_it_should_be_has_no_verdict() {
        let missing = Row::new("a", ("ms", 1), Bound::at_most(1.0), None);
        let doubtful = Row { measured: Some(9.0), ..missing.clone() }.conclusive(false);
        assert_eq!((missing.verdict(), doubtful.verdict()), (Verdict::Open, Verdict::Open));
        assert!(!Table { rows: vec![missing, doubtful] }.is_missed());
    }

    #[test]
    fn a_table_is_shown_in_columns_and_told_as_data() {
        let row = Row::new("CPU per frame", ("x", 2), Bound::at_most(1.4).or_even(1.2), Some(1.5));
        let table = Table { rows: vec![row.noted("9.0 us against 6.0 us")] };
        assert!(table.is_missed());
        let text = table.to_string();
        assert!(text.contains("CPU per frame  <= 1.40 (1.20)     1.50x  MISSED"), "{text}");
        assert_eq!(table.json()[0]["verdict"], "MISSED");
    }
}
