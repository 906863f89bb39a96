//! What operators do to a world's plugins: other versions, other settings, files that come and go, states that begin anew or go back. Knows
//! nothing of what must hold.

use std::sync::atomic::Ordering::Relaxed;

use crate::machines::{Machines, NextLine, PluginFile};
use crate::world::{ALWAYS, Kit, World};

impl World {
    pub(crate) fn change_plugins(&mut self, machines: &mut Machines) -> anyhow::Result<()> {
        match self.random.below(4) {
            0 | 1 => {
                let plugin = *self.random.pick(&["video-actions", "video-actions-alt"]);
                self.files.insert(ALWAYS.into(), file(&self.kit, plugin, "{}"));
            }
            _ => {
                let name = *self.random.pick(&["homepage-fetch", "probe"]);
                let goes_on = name == "probe" && self.random.once_in(2);
                if goes_on || self.files.remove(name).is_none() {
                    let settings = match self.random.below(8) {
                        _ if name != "probe" => "{}".to_owned(),
                        0..=2 => format!("{{\"trap_on_sequence\": {}}}", self.oracle.events() + self.random.below(60)),
                        3 => format!("{{\"trap_in\": \"{}\"}}", self.random.pick(&["save", "merge", "load", "report"])),
                        // Each saves other bytes; 2 and 3 load all others, but nobody loads those of 0.
                        4..=6 => format!("{{\"state_version\": \"{}\"}}", self.random.pick(&["0", "2", "3"])),
                        _ => "{}".to_owned(),
                    };
                    self.files.insert(name.into(), file(&self.kit, name, &settings));
                }
            }
        }
        let next = match self.oracle.events() % 8 {
            0 => Some((ALWAYS, NextLine::Rebuild(i64::MIN, false))),
            1 | 2 => Some((ALWAYS, NextLine::Rollback)),
            3 => Some(("probe", NextLine::Reset)),
            4 => Some(("probe", NextLine::Rebuild(self.time.wall.load(Relaxed) - 1_000_000, true))),
            5 => Some(("probe", NextLine::Rollback)),
            _ => None,
        };
        if let Some((name, next)) = next
            && let Some(file) = self.files.get(name)
            && machines.begin_line(name, file, next)?
        {
            self.report.counts.one("new lines asked for");
        }
        if machines.reconcile(&self.files)? {
            self.report.counts.one("looks at the plugins");
        }
        Ok(())
    }
}

/// A plugin file of the kit.
pub(crate) fn file(kit: &Kit, plugin: &str, settings: &str) -> PluginFile {
    PluginFile { bytes: kit.plugins[plugin].clone(), settings: settings.to_owned() }
}
