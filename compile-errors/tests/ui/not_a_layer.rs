//! Something that is no layer.

use courant::prelude::*;

struct Logging;

fn main() {
    let _ = App::new("billing").layer(Logging);
}
