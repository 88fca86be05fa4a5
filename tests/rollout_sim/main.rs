//! The rollout machine: its rules as sentences, and a seeded simulation of everything that can go wrong around it.

mod rules;
