//! Every fault that a workflow file can have, once: what is said of it is in one snapshot, and the sources are searched for
//! places that find faults and are not shown here.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::panic::Location;
use std::path::Path;

use crate::plan::tests::planned;

thread_local! {
    /// The places in the sources that found a fault in this thread.
    static FOUND: RefCell<BTreeSet<(String, u32)>> = const { RefCell::new(BTreeSet::new()) };
}

/// Notes that the code at `site` has found a fault.
pub(crate) fn noted(site: &Location<'_>) {
    let file = Path::new(site.file()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    FOUND.with_borrow_mut(|found| found.insert((file, site.line())));
}

/// What finds a fault: calls with which a problem is made.
const FINDERS: [&str; 9] = [
    "Problem::new(",
    ".fail(",
    ".map_of(",
    "reader.fields(",
    "reader.integer(",
    "reader.list(",
    "reader.map(",
    "reader.text(",
    "reader.word(",
];

/// The files that read a workflow. `read.rs` is not among them: what it finds counts for those who ask it.
const READERS: [(&str, &str); 10] = [
    ("call.rs", include_str!("call.rs")),
    ("expand.rs", include_str!("expand.rs")),
    ("foreign.rs", include_str!("foreign.rs")),
    ("matrix.rs", include_str!("matrix.rs")),
    ("params.rs", include_str!("params.rs")),
    ("plan.rs", include_str!("plan.rs")),
    ("resources.rs", include_str!("resources.rs")),
    ("step.rs", include_str!("step.rs")),
    ("tree.rs", include_str!("tree.rs")),
    ("workflow.rs", include_str!("workflow.rs")),
];

/// The places that can find a fault.
fn finders() -> BTreeSet<(String, u32)> {
    let mut all = BTreeSet::new();
    for (file, text) in READERS {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (line, number) in code.lines().zip(1..) {
            let is_code = !line.trim_start().starts_with("//");
            if is_code && FINDERS.iter().any(|finder| line.contains(finder)) {
                all.insert((file.to_owned(), number));
            }
        }
    }
    all
}

/// `evoq: 1` and a name, for the cases about something else.
const HEAD: &str = "evoq: 1\nname: flow\n";

/// What is wrong, the file (after [`HEAD`], unless it begins with `!`), and what is set on the command line.
const CASES: &[(&str, &str, &[&str])] = &[
    ("no YAML", "!evoq: 1\nsteps: { a: [1, 2\n", &[]),
    ("a key twice", "seed: 1\nseed: 2\n", &[]),
    ("no map", "![1, 2]\n", &[]),
    ("no version and no name", "!seed: 1\n", &[]),
    ("a version of the future", "!evoq: 2\nname: flow\n", &[]),
    ("a name that is no text", "!evoq: 1\nname: [flow]\n", &[]),
    ("an unknown key", "sed: 3\n", &[]),
    ("a seed that is no number", "seed: one\n", &[]),
    ("params that are no map", "params: 3\n", &[]),
    ("a parameter that is a map", "params: { votes: { k: 1 } }\n", &[]),
    ("a seed among the params", "params: { seed: 3 }\n", &[]),
    ("a set without a value", "params: { votes: 3 }\n", &["votes"]),
    ("a set of what is not there", "params: { votes: 3 }\n", &["vots=3"]),
    (
        "an unknown parameter",
        "params: { votes: 3 }\nsteps: { a: { uses: fake, with: { samples: \"${vots}\" } } }\n",
        &[],
    ),
    ("an open parameter", "steps: { a: { uses: fake, with: { order: \"x${vots\" } } }\n", &[]),
    ("a list inside a text", "params: { l: [1, 2] }\nsteps: { a: { uses: \"fake-${l}\" } }\n", &[]),
    ("steps that are no map", "steps: [a, b]\n", &[]),
    ("a step that is no map", "steps: { a: vote }\n", &[]),
    ("an unknown key of a step", "steps: { a: { uses: fake, wiht: { samples: 3 } } }\n", &[]),
    ("a step that says nothing", "steps: { a: { with: { samples: 3 } } }\n", &[]),
    ("a step that says both", "steps: { a: { uses: fake, run: [x], out: [votes] } }\n", &[]),
    ("a stage that is no text", "steps: { a: { uses: 3 } }\n", &[]),
    ("a stage that there is not", "steps: { a: { uses: fakes } }\n", &[]),
    ("a stage with what a command says", "steps: { a: { uses: fake, out: [votes], version: 2 } }\n", &[]),
    ("a command that is no list", "steps: { a: { run: make, out: [votes] } }\n", &[]),
    ("a command of nothing", "steps: { a: { run: [], out: [votes] } }\n", &[]),
    ("a command that writes nothing", "steps: { a: { run: [make] } }\n", &[]),
    ("a command's outputs as a map", "steps: { a: { run: [make], out: { votes: 1 } } }\n", &[]),
    ("an output that is no text", "steps: { a: { run: [make], out: [3] } }\n", &[]),
    ("a table that there is not", "steps: { a: { run: [make, '{out.vots}'], out: [vots] } }\n", &[]),
    ("an output that no argument names", "steps: { a: { run: [make], out: [votes] } }\n", &[]),
    ("a placeholder of nothing", "steps: { a: { run: [make, '{out.votes}', '{in.vots}'], out: [votes] } }\n", &[]),
    ("an argument that is a list", "steps: { a: { run: [make, [x], '{out.votes}'], out: [votes] } }\n", &[]),
    ("a version that is no number", "steps: { a: { run: [make, '{out.votes}'], out: [votes], version: two } }\n", &[]),
    ("inputs that are no map", "steps: { a: { uses: fake, in: photos } }\n", &[]),
    ("an input that is a map", "steps: { a: { uses: fake, in: { images: { a: b } } } }\n", &[]),
    ("an input that is an empty list", "steps: { a: { uses: fake, in: { images: [] } } }\n", &[]),
    ("an input that is no text", "steps: { a: { uses: fake, in: { images: 3 } } }\n", &[]),
    ("parameters that are no map", "steps: { a: { uses: fake, with: 3 } }\n", &[]),
    ("resources that are no map", "steps: { a: { uses: fake, resources: 3 } }\n", &[]),
    ("resources that there are not", "steps: { a: { uses: fake, resources: { cpu: 3 } } }\n", &[]),
    ("too many cores", "steps: { a: { uses: fake, resources: { cpus: 0 } } }\n", &[]),
    ("memory that is a list", "steps: { a: { uses: fake, resources: { memory: [1] } } }\n", &[]),
    ("memory without a unit", "steps: { a: { uses: fake, resources: { memory: 16 } } }\n", &[]),
    ("a name that cannot be", "steps: { a b: { uses: fake } }\n", &[]),
    ("a name that is a word", "steps: { previous: { uses: fake } }\n", &[]),
    ("a name twice", "steps: { a: { uses: fake } }\nthen: { a: { uses: fake } }\n", &[]),
    ("rounds that are no map", "rounds: 2\n", &[]),
    ("rounds without a count", "rounds: { steps: {} }\n", &[]),
    ("a count that is none", "rounds: { count: 0 }\n", &[]),
    ("starts that are no map", "rounds: { count: 1, start: policy }\n", &[]),
    ("steps of a round that are no map", "rounds: { count: 1, steps: 3 }\n", &[]),
    ("exceptions that are no map", "rounds: { count: 1, except: 3 }\n", &[]),
    ("an exception that is no map", "rounds: { count: 2, except: { 2: 3 } }\n", &[]),
    ("an exception in no round", "rounds: { count: 2, except: { 3: {} } }\n", &[]),
    (
        "an exception to no step",
        "rounds: { count: 1, steps: { a: { uses: fake } }, except: { 1: { b: { with: {} } } } }\n",
        &[],
    ),
    ("queries that are no list", "show: { title: t, sql: SELECT 1 }\n", &[]),
    ("a query that is no map", "show: [SELECT 1]\n", &[]),
    ("a query without a title", "show: [{ sql: SELECT 1 }]\n", &[]),
    ("a title that is no text", "show: [{ title: 3, sql: SELECT 1 }]\n", &[]),
    ("a query that is none", "show: [{ title: t, sql: SELEC 1 }]\n", &[]),
    ("a matrix that is no map", "matrix: [1, 2]\n", &[]),
    ("an axis that is one value", "params: { votes: 3 }\nmatrix: { votes: 3 }\n", &[]),
    ("an axis without values", "params: { votes: 3 }\nmatrix: { votes: [], arm: {} }\n", &[]),
    ("a value that is a list", "params: { votes: 3 }\nmatrix: { votes: [[1, 2]] }\n", &[]),
    ("a value twice", "params: { votes: 3 }\nmatrix: { votes: [1, 2, 1] }\n", &[]),
    ("an axis of no parameter", "params: { votes: 3 }\nmatrix: { vots: [1, 2] }\n", &[]),
    ("an axis by name that is a parameter", "params: { votes: 3 }\nmatrix: { votes: { one: {} } }\n", &[]),
    ("a setting of no parameter", "params: { votes: 3 }\nmatrix: { arm: { one: { vots: 1 } } }\n", &[]),
    ("settings that are no map", "params: { votes: 3 }\nmatrix: { arm: { one: 3 } }\n", &[]),
    ("a setting that is a map", "params: { votes: 3 }\nmatrix: { arm: { one: { votes: { k: 1 } } } }\n", &[]),
    ("a parameter on two axes", "params: { votes: 3 }\nmatrix: { votes: [1, 2], arm: { one: { votes: 1 } } }\n", &[]),
    ("a set to a value that an axis has not", "matrix: { arm: { one: {}, two: {} } }\n", &["arm=on"]),
    ("a set of an axis to nothing", "matrix: { arm: { one: {}, two: {} } }\n", &["arm=[[one]]"]),
    ("a step that there is not", "steps: { photos: { uses: fake }, a: { uses: fake, in: { images: photso } } }\n", &[]),
    ("a cycle", "steps: { a: { uses: fake, in: { images: b } }, b: { uses: fake, in: { images: a } } }\n", &[]),
    ("previous outside the rounds", "steps: { a: { uses: fake, in: { images: previous.b } } }\n", &[]),
    ("each-round outside then", "steps: { a: { uses: fake, in: { images: each-round.b } } }\n", &[]),
    (
        "a step of the rounds",
        "rounds: { count: 1, steps: { a: { uses: fake } } }\nthen: { b: { uses: fake, in: { images: a } } }\n",
        &[],
    ),
    ("a step of then", "steps: { a: { uses: fake, in: { images: b } } }\nthen: { b: { uses: fake } }\n", &[]),
    (
        "a step that is in no round before",
        "steps: { a: { uses: fake } }\nrounds: { count: 2, steps: { b: { uses: fake, in: { images: previous.a } } } }\n",
        &[],
    ),
    ("nothing before round 1", "rounds: { count: 1, steps: { b: { uses: fake, in: { images: previous.b } } } }\n", &[]),
    (
        "a start that is a list",
        "rounds: { count: 1, start: { b: [./x, ./y] }, steps: { b: { uses: fake, in: { images: previous.b } } } }\n",
        &[],
    ),
    (
        "a start in a round",
        "rounds: { count: 1, start: { b: previous.b }, steps: { b: { uses: fake, in: { images: previous.b } } } }\n",
        &[],
    ),
    ("each round of none", "then: { a: { uses: fake, in: { images: each-round.b } } }\n", &[]),
    ("an input that there is not", "steps: { a: { uses: fake, in: { imags: ./x } } }\n", &[]),
    ("two policies", "steps: { a: { uses: fake, in: { images: ./x, policy: [./a, ./b] } } }\n", &[]),
    ("an input that is missing", "steps: { a: { uses: strict, with: { kind: x } } }\n", &[]),
    (
        "a table that is not read",
        "steps: { p: { run: [x, '{out.pairs}'], out: pairs }, a: { uses: fake, in: { images: p.pairs } } }\n",
        &[],
    ),
    (
        "a table that is not written",
        "steps: { p: { run: [x, '{out.pairs}'], out: pairs }, a: { uses: fake, in: { images: p } } }\n",
        &[],
    ),
    (
        "a parameter that the stage has not",
        "steps: { a: { uses: fake, in: { images: ./x }, with: { sampels: 3 } } }\n",
        &[],
    ),
    ("a parameter that is missing", "steps: { a: { uses: strict, in: { images: ./x } } }\n", &[]),
    ("a whole number that is none", "steps: { a: { uses: fake, with: { samples: many } } }\n", &[]),
    ("a text that is a list", "steps: { a: { uses: fake, with: { order: [x, y] } } }\n", &[]),
    ("a text that is nothing", "steps: { a: { uses: fake, with: { list: [~] } } }\n", &[]),
    ("a word that cannot be chosen", "steps: { a: { uses: fake, with: { order: balance } } }\n", &[]),
    (
        "what the stage refuses itself",
        "rounds: { count: 1, steps: { a: { uses: fake, in: { images: ./x }, with: { samples: 100, source: ./here } } } }\n",
        &[],
    ),
    (
        "a path that leads nowhere",
        "steps: { a: { uses: fake, in: { images: ./x, policy: ./y }, with: { source: ./here } } }\n",
        &[],
    ),
];

/// The file of a case.
pub(crate) fn file(text: &str) -> String {
    text.strip_prefix('!').map_or_else(|| format!("{HEAD}{text}"), str::to_owned)
}

/// The cases: what is wrong, the file, and what is set.
pub(crate) fn cases() -> impl Iterator<Item = (&'static str, String, &'static [&'static str])> {
    CASES.iter().map(|&(title, text, sets)| (title, file(text), sets))
}

#[test]
fn every_fault_that_the_sources_can_find_is_said_in_words_that_a_person_has_read() {
    FOUND.with_borrow_mut(BTreeSet::clear);
    let told =
        |title: &str, text: &str, sets: &[&str]| format!("## {title}\n{}\n", planned(text, sets).expect_err(title));
    let mut said: Vec<String> = cases().map(|(title, text, sets)| told(title, &text, sets)).collect();
    // Ten thousand combinations do not fit on a line.
    let each = |value: &str| (0..5).map(|i| format!("  a{i}: {value}")).collect::<Vec<_>>().join("\n");
    let many = format!("{HEAD}params:\n{}\nmatrix:\n{}\n", each("1"), each("[1, 2, 3, 4, 5, 6, 7, 8, 9]"));
    said.push(told("too many combinations", &many, &[]));
    let found = FOUND.with_borrow(Clone::clone);
    let silent: Vec<_> = finders().into_iter().filter(|finder| !found.contains(finder)).collect();
    assert_eq!(silent, [], "these lines can find a fault that no case here has");
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn faults_of_all_kinds_in_one_file_are_told_together_and_none_for_another() {
    let text = "\
evoq: 1
name: flow
params: { samples: 8 }
matrix: { sampels: [1, 2] }
steps:
  photos: { run: [make, '{out.images}'], out: [images], resources: { memory: much } }
  torn: { uses: fake, run: [x] }
  a: { uses: fake, in: { images: photos }, with: { samples: many } }
  b: { uses: fake, in: { images: torn }, with: { order: \"${ordre}\" } }
  c: { uses: fakes, in: { images: photso } }
  d: { uses: fake, in: { images: c, policy: ./nowhere }, with: { samples: 100 } }
show: [{ title: t, sql: SELEC 1 }]
";
    insta::assert_snapshot!(planned(text, &["sed=1"]).unwrap_err().to_string());
}
