//! Steps over rounds: every step once, once a round, or once for the start and each round, in the order in which they can run.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use crate::problem::{Place, Problem, suggestion};
use crate::read::Reader;
use crate::step::{Reference, Step, Target, When, merge, references};
use crate::tree::{Key, Node, Origin};
use crate::workflow::Combination;

/// A step in a round.
#[derive(Debug, Clone)]
pub struct Instance {
    /// The step, with the round's exceptions.
    pub step: Step,
    /// The round, 0 for the start; none for a step that runs once.
    pub round: Option<u32>,
    /// What each input reads, in the order of `step.inputs`.
    pub feeds: Vec<Vec<Feed>>,
}

/// One source of an input.
#[derive(Debug, Clone)]
pub struct Feed {
    /// Where the file names it.
    pub place: Place,
    /// What it is.
    pub from: From,
}

/// What an input reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// What another step writes.
    Step {
        /// Its position in the list of instances.
        instance: usize,
        /// The table, where it is not named like the input.
        table: Option<String>,
    },
    /// Something outside the workflow.
    Outside {
        /// A path or a URI.
        text: String,
        /// Who wrote it.
        origin: Origin,
    },
}

impl Instance {
    /// `` `votes` (round 1) ``, for messages.
    pub fn title(&self) -> String {
        match self.round {
            Some(round) => format!("`{}` (round {round})", self.step.name.text),
            None => format!("`{}`", self.step.name.text),
        }
    }
}

/// The steps of `combination` over its rounds, each after all that it reads. Steps and inputs with faults are left out, and
/// nothing is ordered where there is a cycle: `reader` has the problems.
pub fn expand(combination: &Combination, reader: &mut Reader) -> Vec<Instance> {
    let drafts = drafts(combination, reader);
    let names = Names::new(combination, &drafts);
    let mut instances = Vec::new();
    for (step, round) in &drafts {
        let mut feeds: Vec<Vec<Feed>> = Vec::new();
        for input in &step.inputs {
            let references = input.references.iter();
            feeds.push(references.filter_map(|reference| names.feed(reference, *round, step, reader)).collect());
        }
        instances.push(Instance { step: step.clone(), round: *round, feeds });
    }
    ordered(instances, reader)
}

/// Every step in every round it runs in, in the order of the file.
fn drafts(combination: &Combination, reader: &mut Reader) -> Vec<(Step, Option<u32>)> {
    let mut drafts = Vec::new();
    for (name, node) in &combination.steps {
        drafts.extend(Step::read(name, node, reader).map(|step| (step, None)));
    }
    for round in 1..=combination.rounds.count {
        for (name, node) in &combination.rounds.steps {
            let node = excepted(combination, round, name, node);
            drafts.extend(Step::read(name, &node, reader).map(|step| (step, Some(round))));
        }
    }
    let mut then = Vec::new();
    for (name, node) in &combination.then {
        then.extend(Step::read(name, node, reader));
    }
    let rounds = then_rounds(combination, &then);
    for (step, rounds) in then.into_iter().zip(rounds) {
        match rounds {
            None => drafts.push((step, None)),
            Some(rounds) if rounds.is_empty() => {
                let message = format!("step `{}` runs once a round, and the workflow has no `rounds`", step.name.text);
                reader.problems.push(Problem::new(step.name.place, message));
            }
            Some(rounds) => drafts.extend(rounds.into_iter().map(|round| (step.clone(), Some(round)))),
        }
    }
    drafts
}

fn excepted(combination: &Combination, round: u32, name: &Key, node: &Node) -> Node {
    let except = combination.rounds.except.get(&round);
    let over = except.and_then(|steps| steps.iter().find(|(key, _)| key.text == name.text));
    over.map_or_else(|| node.clone(), |(_, over)| merge(node, over))
}

/// For each step of `then` the rounds it runs in, or none if it runs once.
fn then_rounds(combination: &Combination, then: &[Step]) -> Vec<Option<BTreeSet<u32>>> {
    let index: BTreeMap<&str, usize> = then.iter().enumerate().map(|(i, it)| (it.name.text.as_str(), i)).collect();
    let start: BTreeSet<&str> = combination.rounds.start.iter().map(|(key, _)| key.text.as_str()).collect();
    let mut rounds: Vec<Option<BTreeSet<u32>>> = vec![None; then.len()];
    // Each pass can only turn a step that runs once into one that runs in rounds, or take rounds away: it ends.
    loop {
        let before = rounds.clone();
        for (i, step) in then.iter().enumerate() {
            for reference in step.inputs.iter().flat_map(|input| &input.references) {
                let limits = match reference.target() {
                    Target::Step { when: When::EachRound, step, .. } => {
                        let first = u32::from(!start.contains(step));
                        Some((first..=combination.rounds.count).collect())
                    }
                    // What is compared with the start begins after it.
                    Target::Step { when: When::Start, step, .. }
                        if index.contains_key(step) && !start.contains(step) =>
                    {
                        Some((1..=combination.rounds.count).collect())
                    }
                    Target::Step { when: When::Here, step, .. } => index.get(step).and_then(|&i| before[i].clone()),
                    _ => None,
                };
                if let Some(limits) = limits {
                    let common = rounds[i].as_ref().map(|own| own.intersection(&limits).copied().collect());
                    rounds[i] = Some(common.unwrap_or(limits));
                }
            }
        }
        if rounds == before {
            return rounds;
        }
    }
}

/// What names mean.
struct Names<'a> {
    combination: &'a Combination,
    index: BTreeMap<(&'a str, Option<u32>), usize>,
    sections: BTreeMap<&'a str, Section>,
    /// Steps that could not be read: what refers to them is no fault of its own.
    unread: BTreeSet<&'a str>,
}

/// Where a step is defined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Section {
    Steps,
    Rounds,
    Then,
}

impl<'a> Names<'a> {
    fn new(combination: &'a Combination, drafts: &'a [(Step, Option<u32>)]) -> Self {
        let index: BTreeMap<_, _> =
            drafts.iter().enumerate().map(|(i, (step, round))| ((step.name.text.as_str(), *round), i)).collect();
        let all = [
            (Section::Then, &combination.then),
            (Section::Rounds, &combination.rounds.steps),
            (Section::Steps, &combination.steps),
        ];
        let name = |section| move |(key, _): &'a (Key, Node)| (key.text.as_str(), section);
        let sections: BTreeMap<_, _> =
            all.iter().flat_map(|(section, steps)| steps.iter().map(name(*section))).collect();
        let read: BTreeSet<&str> = drafts.iter().map(|(step, _)| step.name.text.as_str()).collect();
        let unread = sections.keys().copied().filter(|name| !read.contains(name)).collect();
        Self { combination, index, sections, unread }
    }

    /// What `reference` of `step` in `round` reads.
    fn feed(&self, reference: &Reference, round: Option<u32>, step: &Step, reader: &mut Reader) -> Option<Feed> {
        let place = reference.place;
        let outside = || Feed { place, from: From::Outside { text: reference.text.clone(), origin: reference.origin } };
        let Target::Step { when, step: name, table } = reference.target() else { return Some(outside()) };
        let here = self.section(&step.name.text);
        let source = self.section(name);
        let found = |round| self.index.get(&(name, round)).copied();
        let wrong = |what: &str| Problem::new(place, format!("`{}`: {what}", reference.text));
        let instance = match (when, round) {
            (When::Here, _) if source == Some(Section::Steps) || source == here => found(round).or_else(|| found(None)),
            (When::Previous, _) if here != Some(Section::Rounds) => {
                reader.problems.push(wrong("`previous` can only be said inside the rounds"));
                return None;
            }
            (When::EachRound, _) if here != Some(Section::Then) => {
                reader.problems.push(wrong("`each-round` can only be said in `then`"));
                return None;
            }
            (When::Start, _) if here == Some(Section::Then) && source == here && !self.starts(name) => found(Some(0)),
            (When::Start, _) | (When::EachRound, Some(0)) | (When::Previous, Some(1))
                if self.starts(name) || source == Some(Section::Rounds) =>
            {
                return self.start(name, reference, reader);
            }
            (When::Previous, Some(round)) if source == Some(Section::Rounds) => found(round.checked_sub(1)),
            (When::EachRound, Some(_)) if source == Some(Section::Rounds) => found(round),
            _ => None,
        };
        if let Some(instance) = instance {
            let table = table.map(str::to_owned);
            return Some(Feed { place, from: From::Step { instance, table } });
        }
        // A parameter's value without a slash (`--set policy=tiny`) is a path when no step has that name.
        if when == When::Here && reference.origin != Origin::Place && !self.is_known(name) {
            return Some(outside());
        }
        self.unknown(reference, name, when, reader)
    }

    fn section(&self, name: &str) -> Option<Section> {
        self.sections.get(name).copied()
    }

    fn is_known(&self, name: &str) -> bool {
        self.section(name).is_some() || self.starts(name)
    }

    fn starts(&self, name: &str) -> bool {
        self.combination.rounds.start.iter().any(|(key, _)| key.text == name)
    }

    /// The entry `name` of `start`, which may itself name a step that runs once.
    fn start(&self, name: &str, reference: &Reference, reader: &mut Reader) -> Option<Feed> {
        let place = reference.place;
        let Some((_, node)) = self.combination.rounds.start.iter().find(|(key, _)| key.text == name) else {
            let message = format!("`{}` means nothing before round 1: `start` has no `{name}`", reference.text);
            return reader.fail(place, message);
        };
        let entries = references(node, reader);
        let [entry] = entries.as_slice() else {
            return reader.fail(node.place, format!("`start.{name}` is a list; expected one step, path or URI"));
        };
        let outside =
            Feed { place: entry.place, from: From::Outside { text: entry.text.clone(), origin: entry.origin } };
        match entry.target() {
            Target::Outside => Some(outside),
            Target::Step { when: When::Here, step, table } => match self.index.get(&(step, None)) {
                Some(&instance) => {
                    let table = table.map(str::to_owned);
                    Some(Feed { place: entry.place, from: From::Step { instance, table } })
                }
                None if entry.origin != Origin::Place => Some(outside),
                None => self.unknown(entry, step, When::Start, reader),
            },
            Target::Step { .. } => reader
                .fail(entry.place, format!("`{}`: `start` can name a step outside the rounds, or a path", entry.text)),
        }
    }

    fn unknown<T>(&self, reference: &Reference, name: &str, when: When, reader: &mut Reader) -> Option<T> {
        if self.unread.contains(name) {
            return None;
        }
        let place = reference.place;
        let problem = match (self.section(name), when) {
            (Some(Section::Rounds), When::Here | When::Start) => {
                Problem::new(place, format!("`{name}` is a step of the rounds, and this place is outside of them"))
                    .help(format!("in `then`, write `each-round.{name}`"))
            }
            (Some(Section::Then), When::Here) => {
                Problem::new(place, format!("`{name}` is a step of `then`, which comes after this place"))
            }
            (Some(_), When::Previous | When::EachRound | When::Start) => {
                Problem::new(place, format!("`{}`: `{name}` is not a step of the rounds", reference.text))
                    .help(format!("write `{name}`"))
            }
            _ => {
                let near = suggestion(name, self.sections.keys().copied());
                Problem::new(place, format!("there is no step `{name}`{near}"))
                    .help("something outside the workflow is a path with a slash (`./name`) or a URI")
            }
        };
        reader.problems.push(problem);
        None
    }
}

/// The instances in an order in which each comes after what it reads, otherwise as in the file. Cycles come last, as problems.
fn ordered(instances: Vec<Instance>, reader: &mut Reader) -> Vec<Instance> {
    let mut waits: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); instances.len()];
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); instances.len()];
    for (i, instance) in instances.iter().enumerate() {
        for feed in instance.feeds.iter().flatten() {
            if let From::Step { instance: source, .. } = feed.from
                && waits[i].insert(source)
            {
                readers[source].push(i);
            }
        }
    }
    let mut ready: BTreeSet<usize> = (0..instances.len()).filter(|&i| waits[i].is_empty()).collect();
    let mut order = Vec::with_capacity(instances.len());
    while let Some(next) = ready.pop_first() {
        order.push(next);
        for &reader in &readers[next] {
            waits[reader].remove(&next);
            if waits[reader].is_empty() {
                ready.insert(reader);
            }
        }
    }
    if order.len() < instances.len() {
        cycles(&instances, &waits, reader);
        let placed: BTreeSet<usize> = order.iter().copied().collect();
        order.extend((0..instances.len()).filter(|i| !placed.contains(i)));
    }
    let mut new = vec![0; instances.len()];
    for (at, &old) in order.iter().enumerate() {
        new[old] = at;
    }
    let mut sorted: Vec<(usize, Instance)> = instances.into_iter().enumerate().map(|(i, it)| (new[i], it)).collect();
    sorted.sort_by_key(|(at, _)| *at);
    let renumber = |mut instance: Instance| {
        for feed in instance.feeds.iter_mut().flatten() {
            if let From::Step { instance: source, .. } = &mut feed.from {
                *source = new[*source];
            }
        }
        instance
    };
    sorted.into_iter().map(|(_, instance)| renumber(instance)).collect()
}

/// Names the cycles among the instances that still wait for others.
fn cycles(instances: &[Instance], waits: &[BTreeSet<usize>], reader: &mut Reader) {
    let mut graph = DiGraph::<(), ()>::new();
    let nodes: Vec<NodeIndex> = instances.iter().map(|_| graph.add_node(())).collect();
    for (i, sources) in waits.iter().enumerate() {
        for &source in sources {
            graph.add_edge(nodes[i], nodes[source], ());
        }
    }
    for component in kosaraju_scc(&graph) {
        let members: Vec<usize> = component.iter().map(|node| node.index()).collect();
        let reads_itself = members.iter().any(|&i| waits[i].contains(&i));
        if members.len() > 1 || reads_itself {
            cycle(instances, &members, reader);
        }
    }
}

/// Names the steps of a cycle, each reading the next.
fn cycle(instances: &[Instance], members: &[usize], reader: &mut Reader) {
    let first = members.iter().copied().min().unwrap_or_default();
    let mut path = vec![first];
    let mut place = instances[first].step.name.place;
    loop {
        let current = *path.last().unwrap_or(&first);
        let next = instances[current].feeds.iter().flatten().find_map(|feed| match feed.from {
            From::Step { instance, .. } if members.contains(&instance) => Some((instance, feed.place)),
            _ => None,
        });
        let Some((next, read_at)) = next else { break };
        place = read_at;
        let seen = path.contains(&next);
        path.push(next);
        if seen {
            break;
        }
    }
    let names: Vec<String> = path.iter().map(|&i| format!("`{}`", instances[i].step.name.text)).collect();
    let message = format!("a cycle: {}", names.join(" reads "));
    reader.problems.push(Problem::new(place, message).help("what the round before made is `previous.STEP`"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Problems;
    use crate::workflow::tests::parsed;

    const FLOW: &str = "\
evoq: 1
name: flow
params: { policy: tiny }
steps:
  photos: { uses: ingest }
  variants: { uses: distort, in: { images: photos } }
rounds:
  count: 2
  start: { policy: \"${policy}\" }
  steps:
    policy: { uses: grpo, in: { images: photos, labels: labels, policy: previous.policy } }
    labels: { uses: label, in: { votes: votes } }
    votes: { uses: vote, in: { images: photos, policy: previous.policy } }
  except:
    2: { votes: { in: { images: [photos, variants] } } }
then:
  scores: { uses: score, in: { images: variants, policy: each-round.policy } }
  table: { uses: benchmark, in: { scores: scores, images: variants } }
  shares: { uses: benchmark, in: { votes: each-round.votes, scores: scores } }
  gains: { uses: benchmark, in: { scores: [start.scores, scores], images: variants } }
";

    fn shown(text: &str) -> String {
        let workflow = parsed(text, &[]).unwrap();
        let mut reader = Reader::default();
        let instances = expand(&workflow.combinations[0], &mut reader);
        if !reader.problems.is_empty() {
            return Problems::new(&workflow.source, reader.problems).to_string();
        }
        let name = |it: &Instance| {
            it.round.map_or(it.step.name.text.clone(), |round| format!("{}@{round}", it.step.name.text))
        };
        let feed = |feed: &Feed| match &feed.from {
            From::Step { instance, .. } => name(&instances[*instance]),
            From::Outside { text, .. } => format!("<{text}>"),
        };
        let line = |it: &Instance| {
            let feeds: Vec<String> = it.feeds.iter().flatten().map(feed).collect();
            format!("{}: {}", name(it), feeds.join(" "))
        };
        instances.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn steps_run_once_once_a_round_or_for_the_start_and_each_round_after_what_they_read() {
        insta::assert_snapshot!(shown(FLOW));
    }

    #[test]
    fn a_cycle_is_named_step_by_step() {
        insta::assert_snapshot!(shown(
            &FLOW.replace("policy: previous.policy } }\n    labels", "policy: policy } }\n    labels")
        ));
        insta::assert_snapshot!(shown(
            &FLOW.replace("in: { images: photos, policy: previous.policy }", "in: { images: policy }")
        ));
    }

    #[test]
    fn references_that_mean_nothing_are_told_with_what_to_write() {
        let text = FLOW
            .replace(
                "variants: { uses: distort, in: { images: photos } }",
                "variants: { uses: distort, in: { images: photso } }",
            )
            .replace("votes: votes", "votes: each-round.votes")
            .replace("images: variants, policy: each-round.policy", "images: labels, policy: previous.policy");
        insta::assert_snapshot!(shown(&text));
    }
}
