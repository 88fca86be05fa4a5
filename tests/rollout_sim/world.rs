//! A fake outside, driven by a seed: processes that are slow, sick, flapping or dead, a lossy way for events, operators who edit
//! and take nodes out, restarts, and a clock that jumps.

use std::collections::BTreeMap;
use std::time::Duration;

use sluicegate::api::Steering;
use sluicegate::config::{Control, Step, Strategy};
use sluicegate::model::{NodeAddress, Share, Timestamp, Version};
use sluicegate::rollout::{Action, Canary, Ejection, Event, Machine, NodeRef, Phase, Verdict, Wanted};

use crate::observer::Observer;

const ADDRESSES: [&str; 6] = ["n1", "n2", "n3", "n4", "n5", "n6"];
const RELEASES: [&str; 4] = ["-", "v1", "v2", "v3"];

pub struct World {
    pub observer: Observer,
    machine: Machine,
    random: fastrand::Rng,
    now: Timestamp,
    /// Whether the process behind a node answers its probes.
    processes: BTreeMap<(Version, NodeAddress), bool>,
    /// Events on their way; any of them may arrive next.
    under_way: Vec<Event>,
    /// How sick this world is, in percent.
    sickness: u8,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        Self {
            observer: Observer::default(),
            machine: Machine::new(),
            now: Timestamp(1_700_000_000_000),
            processes: BTreeMap::new(),
            under_way: Vec::new(),
            sickness: random.u8(0..=50),
            random,
        }
    }

    /// Random events, then silence in which everything recovers.
    pub fn run(&mut self, steps: usize) -> Result<(), String> {
        self.edit()?;
        for _ in 0..steps {
            self.step()?;
        }
        self.settle()
    }

    fn step(&mut self) -> Result<(), String> {
        self.pass_time();
        match self.random.u8(0..100) {
            0..=3 => self.edit(),
            4..=5 => self.repeat_edit(),
            6 => self.remove(),
            7..=9 => self.hold(),
            10..=11 => self.restart(),
            12..=16 => {
                self.fall_sick();
                Ok(())
            }
            17..=19 => self.fail(),
            20..=44 => {
                self.probe();
                Ok(())
            }
            45..=54 => {
                self.finish_drains();
                Ok(())
            }
            55..=64 => self.tick(),
            65 => self.tell(Event::Tick),
            66..=69 => self.judge(),
            70..=71 => self.steer(),
            _ => self.deliver(),
        }
    }

    fn pass_time(&mut self) {
        let later = match self.random.u8(0..100) {
            0 => {
                self.now = Timestamp(self.now.0.saturating_sub(self.random.u64(0..3_600_000)));
                return;
            }
            1 => self.random.u64(0..86_400_000),
            2..=60 => self.random.u64(0..4_000),
            _ => 0,
        };
        self.now = self.now.plus(Duration::from_millis(later));
    }

    fn tell(&mut self, event: Event) -> Result<(), String> {
        self.observer.tell(&mut self.machine, event, self.now)?;
        Ok(())
    }

    fn edit(&mut self) -> Result<(), String> {
        let mut wanted = match self.observer.wanted.clone() {
            Some(wanted) if self.random.bool() => wanted,
            _ => {
                let release = RELEASES[self.random.usize(0..RELEASES.len())];
                Wanted {
                    release: if release == "-" { Version::unnamed() } else { release.into() },
                    nodes: Vec::new(),
                    strategy: Strategy::Rolling,
                    keep: Duration::ZERO,
                    deadline: Duration::ZERO,
                    serve_when_all_down: true,
                    slow_start: Duration::ZERO,
                    ejection: Ejection::default(),
                    canary: Canary::default(),
                    control: Control::Run,
                    surge: None,
                    floor: None,
                }
            }
        };
        let size = if self.random.u8(0..50) == 0 { 0 } else { self.random.usize(1..=4) };
        let nodes = self.random.choose_multiple(ADDRESSES, size);
        wanted.nodes = nodes.into_iter().map(NodeAddress::new).collect();
        self.change_settings(&mut wanted);
        self.tell(Event::Wanted(wanted))
    }

    fn change_settings(&mut self, wanted: &mut Wanted) {
        wanted.strategy =
            [Strategy::Rolling, Strategy::Canary, Strategy::Canary, Strategy::BlueGreen][self.random.usize(0..4)];
        let mut share = 0;
        let steps = (0..self.random.usize(0..5)).map(|_| {
            share += self.random.u32(u32::from(share > 0)..3000);
            let hold = (self.random.u8(0..4) > 0).then(|| Duration::from_secs(self.random.u64(0..30)));
            Step { share: Share(share.min(10_000)), hold }
        });
        wanted.canary = Canary {
            steps: steps.collect(),
            guarded: self.random.bool(),
            asked: self.random.bool(),
            extend: Duration::from_secs(self.random.u64(0..30)),
            pass_if_too_few: self.random.bool(),
        };
        wanted.control = match self.random.u8(0..20) {
            0 => Control::Pause,
            1 => Control::Promote,
            2 => Control::Abort,
            _ => Control::Run,
        };
        wanted.surge = (self.random.u8(0..3) == 0).then(|| self.random.usize(1..4));
        wanted.keep = Duration::from_secs(self.random.u64(0..60));
        wanted.deadline = Duration::from_secs(self.random.u64(0..200));
        wanted.serve_when_all_down = self.random.bool();
        wanted.slow_start = Duration::from_secs(if self.random.bool() { 0 } else { self.random.u64(1..40) });
        wanted.ejection = Ejection {
            time: Duration::from_secs(self.random.u64(1..20)),
            longest: Duration::from_mins(1),
            most: Share(self.random.u32(0..=10_000)),
        };
    }

    /// The same nodes again: exactly as they were, or with other settings, or an earlier version of the file.
    fn repeat_edit(&mut self) -> Result<(), String> {
        let Some(mut wanted) = self.observer.wanted.clone() else {
            return Ok(());
        };
        match self.random.u8(0..3) {
            0 => {}
            1 => self.change_settings(&mut wanted),
            _ => {
                let refused = self.machine.refused();
                let Some(refused) = refused.get(self.random.usize(0..refused.len().max(1))) else {
                    return Ok(());
                };
                wanted.release = refused.version.clone();
                wanted.nodes = refused.nodes.iter().rev().cloned().collect();
            }
        }
        self.tell(Event::Wanted(wanted))
    }

    fn remove(&mut self) -> Result<(), String> {
        if self.random.u8(0..4) > 0 {
            return Ok(());
        }
        self.tell(Event::Removed)
    }

    fn hold(&mut self) -> Result<(), String> {
        let address = NodeAddress::new(ADDRESSES[self.random.usize(0..ADDRESSES.len())]);
        let out = !self.observer.held.contains(&address) || self.random.u8(0..10) == 0;
        // The last healthy node may be taken out too: the caller's check is not the machine's promise.
        if out && self.machine.can_hold_out(&address).is_err() && self.random.u8(0..5) > 0 {
            return Ok(());
        }
        if out {
            self.observer.held.insert(address.clone());
        } else {
            self.observer.held.remove(&address);
        }
        self.tell(Event::HeldOut { address, out })
    }

    /// `kill -9`: what was on its way is lost. Then the configuration is told again, as it was or edited meanwhile.
    fn restart(&mut self) -> Result<(), String> {
        self.under_way.clear();
        self.observer.restart(&mut self.machine, self.now)?;
        match self.observer.wanted.clone() {
            Some(wanted) if self.random.u8(0..5) > 0 => self.tell(Event::Wanted(wanted)),
            Some(_) => self.edit(),
            None => Ok(()),
        }
    }

    fn answers(&mut self, node: &NodeRef) -> bool {
        let process = (node.version.clone(), node.address.clone());
        let sick = self.random.u8(0..100) < self.sickness;
        *self.processes.entry(process).or_insert(!sick)
    }

    fn fall_sick(&mut self) {
        let sickness = self.sickness;
        let process = self.random.usize(0..self.processes.len().max(1));
        if let Some(answers) = self.processes.values_mut().nth(process) {
            *answers = self.random.u8(0..100) >= sickness;
        }
    }

    /// Requests fail at a node, whatever its probes say.
    fn fail(&mut self) -> Result<(), String> {
        let nodes: Vec<NodeRef> = self.observer.nodes.keys().cloned().collect();
        let Some(node) = self.random.choice(nodes) else {
            return Ok(());
        };
        self.tell(Event::Failing { node, detail: "5 requests in a row failed".into() })
    }

    /// The guard looks, or what it saw before arrives late.
    fn judge(&mut self) -> Result<(), String> {
        let Some(trial) = self.machine.trial() else {
            return Ok(());
        };
        let verdict = match self.random.u8(0..10) {
            0 => Verdict::Fail("too many of its requests fail".into()),
            1..=4 => Verdict::TooFew,
            5 => Verdict::Hold("a judge does not let it pass".into()),
            _ => Verdict::Pass,
        };
        let event = Event::Judged { version: trial.version, share: trial.share, verdict };
        if self.random.u8(0..4) == 0 {
            self.under_way.push(event);
            return Ok(());
        }
        self.tell(event)
    }

    fn steer(&mut self) -> Result<(), String> {
        let all = [
            Steering::Promote,
            Steering::PromoteFull,
            Steering::Pause,
            Steering::Resume,
            Steering::Abort,
            Steering::Retry,
        ];
        let steering = all[self.random.usize(0..all.len())];
        if self.machine.can_steer(steering).is_ok() {
            self.observer.seen.insert(steering.as_str().into());
        }
        self.tell(Event::Steer(steering))
    }

    fn probe(&mut self) {
        let nodes: Vec<NodeRef> = self.observer.nodes.keys().cloned().collect();
        for node in nodes {
            let healthy = self.answers(&node);
            let detail = if healthy { "status 200" } else { "connection refused" };
            let event = Event::Health { node, healthy, detail: detail.into() };
            match self.random.u8(0..10) {
                0..=2 => {}
                3 => self.under_way.extend([event.clone(), event]),
                _ => self.under_way.push(event),
            }
        }
    }

    fn finish_drains(&mut self) {
        let draining = self.observer.nodes.iter().filter(|(_, stay)| stay.closed && !stay.drained);
        for (node, _) in draining {
            if self.random.bool() {
                self.under_way.push(Event::Drained { node: node.clone() });
            }
        }
    }

    fn tick(&mut self) -> Result<(), String> {
        let Some(deadline) = self.machine.deadline() else {
            return Ok(());
        };
        if self.random.u8(0..4) == 0 {
            self.now = deadline;
        }
        if deadline <= self.now { self.tell(Event::Tick) } else { Ok(()) }
    }

    fn deliver(&mut self) -> Result<(), String> {
        if self.under_way.is_empty() {
            return Ok(());
        }
        let next = self.random.usize(0..self.under_way.len());
        let event = self.under_way.swap_remove(next);
        self.tell(event)
    }

    fn put_all_back(&mut self) -> Result<(), String> {
        for address in self.observer.held.clone() {
            self.tell(Event::HeldOut { address, out: false })?;
        }
        Ok(())
    }

    /// Everything is healthy, nothing is lost, time goes on: the machine must come to rest, where it shall.
    fn settle(&mut self) -> Result<(), String> {
        self.observer.trace.push("the outside is well from here on".into());
        self.under_way.clear();
        // With every node that could serve taken out by hand, what serves goes on serving: there is no end to wait for.
        let stuck = self.machine.phase() == Phase::Failed
            || self
                .observer
                .wanted
                .iter()
                .all(|wanted| wanted.nodes.iter().all(|node| self.observer.held.contains(node)));
        if stuck {
            self.put_all_back()?;
        }
        // Nobody steers any more.
        if let Some(wanted) = self.observer.wanted.clone() {
            self.tell(Event::Wanted(Wanted { control: Control::Promote, ..wanted }))?;
        }
        self.tell(Event::Steer(Steering::Resume))?;
        for _ in 0..200 {
            let mut acted = Vec::<Action>::new();
            if self.machine.phase() == Phase::Failed {
                self.put_all_back()?;
            }
            for (node, stay) in self.observer.nodes.clone() {
                let event = if stay.closed {
                    Event::Drained { node }
                } else {
                    Event::Health { node, healthy: true, detail: "status 200".into() }
                };
                acted.append(&mut self.observer.tell(&mut self.machine, event, self.now)?);
            }
            let deadline = self.machine.deadline();
            if let Some(deadline) = deadline {
                self.now = deadline;
                acted.append(&mut self.observer.tell(&mut self.machine, Event::Tick, self.now)?);
            }
            if acted.is_empty() && deadline.is_none() {
                return self.observer.check_end(&self.machine);
            }
        }
        Err("the machine does not come to rest".into())
    }
}
