//! What of a machine is free: which steps can run beside each other.

use evoq_artifacts::read_file;

use super::How;
use crate::resources::Resources;

/// A machine's cores, accelerators and memory, as far as no step holds them.
#[derive(Debug)]
pub struct Machine {
    all: Room,
    free: Room,
    /// The cores of a step that takes all it gets.
    most: Option<usize>,
    /// Whether a scheduler finds the room.
    is_boundless: bool,
}

#[derive(Debug, Clone)]
struct Room {
    cpus: usize,
    memory: u64,
    devices: Vec<String>,
}

/// What a running step holds.
#[derive(Debug)]
pub struct Share {
    /// Its cores; none means all of whatever machine it comes to.
    pub cpus: Option<usize>,
    /// Its accelerators, by number.
    pub devices: Vec<String>,
    memory: u64,
}

impl Machine {
    /// This machine, or what of it the user gives.
    pub fn new(how: &How) -> Self {
        let here = std::thread::available_parallelism().map_or(1, usize::from);
        let all = Room {
            cpus: how.cpus.unwrap_or(here),
            memory: how.memory.or_else(memory).unwrap_or(u64::MAX),
            devices: devices(),
        };
        Self { free: all.clone(), all, most: how.threads, is_boundless: false }
    }

    /// Machines behind a scheduler of their own; a step that takes all it gets is given `cpus` cores, or a whole machine.
    pub fn boundless(cpus: Option<usize>) -> Self {
        let all = Room { cpus: 0, memory: 0, devices: Vec::new() };
        Self { free: all.clone(), all, most: cpus, is_boundless: true }
    }

    /// What a step with these `needs` may use, if there is room for it now. One that needs more than there is gets all.
    pub fn take(&mut self, needs: &Resources) -> Option<Share> {
        let asked = needs.cpus.and_then(|cpus| usize::try_from(cpus).ok()).or(self.most);
        if self.is_boundless {
            return Some(Share { cpus: asked, devices: Vec::new(), memory: 0 });
        }
        let cpus = asked.unwrap_or(self.all.cpus).clamp(1, self.all.cpus.max(1));
        let memory = needs.memory.unwrap_or(0).min(self.all.memory);
        let devices = (needs.gpus as usize).min(self.all.devices.len());
        let free = &mut self.free;
        if cpus > free.cpus || memory > free.memory || devices > free.devices.len() {
            return None;
        }
        free.cpus -= cpus;
        free.memory -= memory;
        let devices = free.devices.drain(..devices).collect();
        Some(Share { cpus: Some(cpus), devices, memory })
    }

    /// Whether there is room for no step: each takes a core.
    pub fn is_full(&self) -> bool {
        !self.is_boundless && self.free.cpus == 0
    }

    /// How much of the machine a step with these `needs` takes, from 0 to 1: of that which it takes most of. A scheduler finds room
    /// for all.
    pub fn part(&self, needs: &Resources) -> f64 {
        if self.is_boundless {
            return 0.0;
        }
        let cpus = needs.cpus.and_then(|cpus| usize::try_from(cpus).ok()).or(self.most).unwrap_or(self.all.cpus);
        let share = |wanted: f64, all: f64| if all > 0.0 { (wanted / all).min(1.0) } else { 0.0 };
        let of_cpus = share(cpus as f64, self.all.cpus as f64);
        let of_memory = share(needs.memory.unwrap_or(0) as f64, self.all.memory as f64);
        let of_devices = share(f64::from(needs.gpus), self.all.devices.len() as f64);
        of_cpus.max(of_memory).max(of_devices)
    }

    /// The step that held `share` has ended.
    pub fn give_back(&mut self, share: Share) {
        if !self.is_boundless {
            self.free.cpus += share.cpus.unwrap_or(0);
            self.free.memory += share.memory;
            self.free.devices.extend(share.devices);
            self.free.devices.sort();
        }
    }
}

/// The machine's memory in bytes, where the system tells.
fn memory() -> Option<u64> {
    let told = String::from_utf8(read_file("/proc/meminfo".as_ref()).ok()?).ok()?;
    let line = told.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// The accelerators that programs of this process see: those the user names, or all of the machine.
fn devices() -> Vec<String> {
    if let Ok(named) = std::env::var("CUDA_VISIBLE_DEVICES") {
        return named.split(',').map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned).collect();
    }
    let names = std::fs::read_dir("/dev").into_iter().flatten().flatten().map(|entry| entry.file_name());
    let numbers = names.filter_map(|name| name.to_str()?.strip_prefix("nvidia")?.parse::<u32>().ok());
    let mut numbers: Vec<u32> = numbers.collect();
    numbers.sort_unstable();
    numbers.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(cpus: usize, memory: u64, devices: usize, most: Option<usize>) -> Machine {
        let all = Room { cpus, memory, devices: (0..devices).map(|i| i.to_string()).collect() };
        Machine { free: all.clone(), all, most, is_boundless: false }
    }

    fn needs(cpus: Option<u32>, gpus: u32, memory: Option<u64>) -> Resources {
        Resources { cpus, gpus, memory }
    }

    #[test]
    fn steps_run_beside_each_other_as_far_as_the_cores_go() {
        let mut four = machine(4, 100, 0, None);
        let three = four.take(&needs(Some(3), 0, None)).unwrap();
        assert!(four.take(&needs(Some(2), 0, None)).is_none());
        assert!(four.take(&needs(None, 0, None)).is_none());
        assert_eq!(four.take(&needs(Some(1), 0, None)).unwrap().cpus, Some(1));
        four.give_back(three);
        assert_eq!(four.take(&needs(Some(3), 0, None)).unwrap().cpus, Some(3));
    }

    #[test]
    fn a_step_that_needs_more_than_there_is_gets_all_of_it() {
        let mut two = machine(2, 100, 1, None);
        let all = two.take(&needs(Some(64), 8, Some(1000))).unwrap();
        assert_eq!((all.cpus, all.devices.len()), (Some(2), 1));
        assert!(two.take(&needs(Some(1), 0, None)).is_none());
        two.give_back(all);
        assert_eq!(two.take(&needs(None, 0, None)).unwrap().cpus, Some(2));
    }

    #[test]
    fn memory_and_accelerators_are_shared_out_too() {
        let mut big = machine(64, 100, 2, Some(2));
        let first = big.take(&needs(None, 1, Some(60))).unwrap();
        assert_eq!((first.cpus, first.devices.as_slice()), (Some(2), ["0".to_owned()].as_slice()));
        assert!(big.take(&needs(None, 0, Some(60))).is_none());
        let second = big.take(&needs(None, 1, Some(40))).unwrap();
        assert_eq!(second.devices, ["1"]);
        assert!(big.take(&needs(None, 1, None)).is_none());
        big.give_back(first);
        assert_eq!(big.take(&needs(None, 1, None)).unwrap().devices, ["0"]);
    }

    #[test]
    fn a_step_takes_the_part_of_the_machine_that_it_takes_most_of() {
        let four = machine(4, 100, 2, None);
        let part = |cpus, gpus, memory| four.part(&needs(cpus, gpus, memory));
        assert_eq!([part(Some(1), 0, None), part(Some(1), 1, None), part(Some(1), 0, Some(75))], [0.25, 0.5, 0.75]);
        assert_eq!([part(None, 0, None), part(Some(64), 0, None)], [1.0, 1.0]);
        assert!(Machine::boundless(None).part(&needs(None, 1, None)) < f64::EPSILON);
    }

    #[test]
    fn a_scheduler_is_asked_for_what_a_step_needs_and_finds_the_room_itself() {
        let mut cluster = Machine::boundless(None);
        let cpus: Vec<Option<usize>> =
            [Some(8), Some(64), None].iter().map(|&cpus| cluster.take(&needs(cpus, 0, None)).unwrap().cpus).collect();
        assert_eq!(cpus, [Some(8), Some(64), None]);
    }
}
