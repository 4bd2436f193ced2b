//! Asks many questions side by side.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use evoq_pictures::Pictures;
use evoq_schemas::ImageId;
use evoq_stage::bad_input;

use crate::picture::data_uri;
use crate::question::{Question, Sampling, body};
use crate::reply::{Lost, Sample};
use crate::send::{Failed, Fault};
use crate::server::Server;

/// The samples of each question, in the order of its draws.
///
/// Pictures are brought when their question's turn comes, so that memory holds those of the requests under way.
///
/// # Errors
/// The server fails, or refuses key, model or address; a picture cannot be read. What one sample lacks while the server answers
/// others is no error: it is [`Lost`].
pub fn ask(
    server: &Server,
    pictures: &Pictures,
    questions: &[Question],
    sampling: &Sampling,
) -> anyhow::Result<Vec<Vec<Sample>>> {
    ask_with(server, &|id| data_uri(pictures, id), questions, sampling)
}

/// As [`ask`], with what gives a picture's data URI.
pub(crate) fn ask_with(
    server: &Server,
    picture: &(dyn Fn(&ImageId) -> anyhow::Result<String> + Sync),
    questions: &[Question],
    sampling: &Sampling,
) -> anyhow::Result<Vec<Vec<Sample>>> {
    if sampling.top_k.is_some() && !server.takes.more {
        return Err(bad_input(format!("--top-k: {} does not take it; leave it out", server.name())));
    }
    let (next, failed) = (AtomicUsize::new(0), Failed::new());
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(question) = questions.get(index) else { return done };
            match samples(server, picture, question, sampling, &failed) {
                Ok(samples) => done.push((index, samples)),
                Err(Fault::Fatal(error)) => {
                    // The first one is told.
                    let _ = failed.set(error);
                    return done;
                }
                Err(Fault::Lost(..) | Fault::Stopped) => return done,
            }
        }
    };
    let mut done: Vec<(usize, Vec<Sample>)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..server.concurrency.min(questions.len())).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    if let Some(error) = failed.into_inner() {
        return Err(error);
    }
    done.sort_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, samples)| samples).collect())
}

/// The samples of one question: all in one request where the server gives several, and whatever did not come one at a time.
fn samples(
    server: &Server,
    picture: &(dyn Fn(&ImageId) -> anyhow::Result<String> + Sync),
    question: &Question,
    sampling: &Sampling,
    failed: &Failed,
) -> Result<Vec<Sample>, Fault> {
    let count = question.draws.count();
    let pictures: anyhow::Result<Vec<String>> = question.pictures.iter().map(|id| picture(id)).collect();
    let pictures = pictures.map_err(Fault::Fatal)?;
    let exchange = |first: usize, count: usize, tries: usize| {
        let draws = question.draws.part(first, count);
        let body = body(&server.model, question.text, &pictures, draws, sampling, server.takes);
        server.exchange(&body, count, draws.seed(), tries, failed)
    };
    let mut came: Vec<Option<Sample>> = vec![None; count];
    if count > 1 && server.takes.several {
        match exchange(0, count, server.tries) {
            Ok(samples) => came = samples,
            // They may be too many at once: each is asked for by itself.
            Err(Fault::Lost(_, what)) => tracing::debug!("{what}; {count} replies are asked for one at a time"),
            Err(fault) => return Err(fault),
        }
    }
    let mut tries = server.tries;
    let mut samples = Vec::with_capacity(count);
    for (index, sample) in came.into_iter().enumerate() {
        let sample = match sample
            .map_or_else(|| exchange(index, 1, tries).map(|mut it| it.pop().flatten()), |it| Ok(Some(it)))
        {
            Ok(sample) => sample.unwrap_or(Err(Lost::BrokenReply)),
            Err(Fault::Lost(lost, what)) => {
                // A question that has failed often enough has no more than one try for each of its other replies.
                tries = 1;
                let ids: Vec<&str> = question.pictures.iter().map(|id| id.as_str()).collect();
                tracing::warn!("{what}; reply {index} about {} is given up: {}", ids.join(" and "), lost.as_str());
                Err(lost)
            }
            Err(fault) => return Err(fault),
        };
        samples.push(sample);
    }
    Ok(samples)
}
