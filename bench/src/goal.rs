//! What is asked of a row, and whether the row reaches it.

use crate::table::{Cell, Column};

/// What [`cells`] fills.
pub(crate) const COLUMNS: [Column; 2] = [Column::text("asked", "asked"), Column::text("reached", "reached")];

/// Whether a figure is not above this; `None` where there is no figure.
pub(crate) fn at_most(figure: f64, bound: f64) -> Option<bool> {
    figure.is_finite().then_some(figure <= bound)
}

/// Whether a figure is not below this; `None` where there is no figure.
pub(crate) fn at_least(figure: f64, bound: f64) -> Option<bool> {
    figure.is_finite().then_some(figure >= bound)
}

/// Whether a figure is below this; `None` where there is no figure.
pub(crate) fn below(figure: f64, bound: f64) -> Option<bool> {
    figure.is_finite().then_some(figure < bound)
}

/// Whether a figure is above this; `None` where there is no figure.
pub(crate) fn above(figure: f64, bound: f64) -> Option<bool> {
    figure.is_finite().then_some(figure > bound)
}

/// What is asked, in words, and whether all of it is reached. Nothing is asked of most rows.
pub(crate) fn cells(asked: &str, met: &[Option<bool>]) -> [Cell; 2] {
    let reached = if asked.is_empty() {
        ""
    } else if met.contains(&None) {
        "void"
    } else if met.contains(&Some(false)) {
        "no"
    } else {
        "yes"
    };
    [Cell::text(asked), Cell::text(reached)]
}

/// The same of a durable row that has to go through checkpoints: where it has not, it may still have to pay for them.
pub(crate) fn durable_cells(asked: &str, met: &[Option<bool>], through_checkpoints: bool) -> [Cell; 2] {
    let [asked, reached] = cells(asked, met);
    let is_shown = through_checkpoints || reached != Cell::text("yes");
    [asked, if is_shown { reached } else { Cell::text("not shown") }]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(met: &[Option<bool>]) -> Cell {
        let [_, reached] = cells("≤ 1", met);
        reached
    }

    #[test]
    fn all_of_it_has_to_be_reached() {
        assert_eq!(reached(&[at_most(0.4, 0.4), at_least(0.7, 0.7)]), Cell::text("yes"));
        assert_eq!(reached(&[at_most(0.401, 0.4), at_least(0.8, 0.7)]), Cell::text("no"));
        assert_eq!(reached(&[at_most(0.3, 0.4), at_least(0.69, 0.7)]), Cell::text("no"));
        assert_eq!((below(1.2, 1.2), above(1.0, 1.0)), (Some(false), Some(false)));
        assert_eq!((below(1.19, 1.2), above(1.01, 1.0)), (Some(true), Some(true)));
        assert_eq!(cells("", &[]), ["", ""].map(Cell::text));
    }

    #[test]
    fn what_has_no_figure_is_void_whatever_else_is_reached() {
        assert_eq!(reached(&[at_most(f64::NAN, 0.4), Some(false)]), Cell::text("void"));
        assert_eq!(reached(&[Some(true), at_least(f64::INFINITY, 1.0)]), Cell::text("void"));
    }

    #[test]
    fn a_goal_without_checkpoints_is_not_shown_and_a_loss_stays_one() {
        let durable = |met, through| durable_cells("≤ 1", &[Some(met)], through)[1].clone();
        assert_eq!(durable(true, true), Cell::text("yes"));
        assert_eq!(durable(true, false), Cell::text("not shown"));
        assert_eq!(durable(false, false), Cell::text("no"));
    }
}
