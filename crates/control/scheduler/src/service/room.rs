//! Making room: the end of less important pods, and whom the node is kept for.

use std::sync::Arc;

use cloudeck_controller::EventType;
use compact_str::CompactString;
use futures_util::future::join_all;

use super::writes::{clear_nomination, end_victim, reference};
use super::{Outcome, Service};
use crate::decision::Refusal;
use crate::model::PodInfo;
use crate::preemption::{Preemption, preempt};

impl Service {
    /// Tries to make room for the pod. Gives the node that is kept for it from now on: an empty name for none, nothing
    /// when it stays as it was.
    pub(super) fn make_room(&mut self, pod: &PodInfo, refusal: &mut Refusal) -> Option<CompactString> {
        if refusal.nodes == 0 {
            return Some(CompactString::default());
        }
        if self.preempting.contains(&pod.uid) {
            "waiting for the preemption for this pod to be finished".clone_into(&mut refusal.preemption);
            return None;
        }
        let outcome = preempt(pod, &self.cache, &self.plugins, refusal, self.search.turn());
        refusal.preemption = outcome.message().into_owned();
        match outcome {
            Preemption::NotEligible(_) => None,
            Preemption::Vain(_) => Some(CompactString::default()),
            Preemption::Room { node, victims } => {
                self.give_up_lesser_nominations(pod, &node);
                self.end_victims(pod, victims, &node);
                Some(node)
            }
        }
    }

    /// Less important pods for which the node is kept may no longer fit: they look for another one.
    fn give_up_lesser_nominations(&mut self, pod: &PodInfo, node: &str) {
        let lesser = self.cache.nominated(node).iter();
        let lesser: Vec<_> = lesser
            .filter(|other| other.priority < pod.priority)
            .cloned()
            .collect();
        for other in lesser {
            self.cache.forget_nomination(&other.uid);
            self.queue.give_up_kept(&other.uid);
            let client = self.client.clone();
            self.scope.spawn_until_shutdown("nomination", async move {
                if let Err(status) = clear_nomination(&client, &other).await {
                    tracing::debug!(pod = %other.key, error = %status, "nomination not taken back");
                }
            });
        }
    }

    fn end_victims(&mut self, pod: &PodInfo, victims: Vec<Arc<PodInfo>>, node: &str) {
        let victims: Vec<_> = victims.into_iter().filter(|victim| !victim.deleting).collect();
        if victims.is_empty() {
            return;
        }
        self.preempting.insert(pod.uid.clone());
        let (client, outcome, recorder) = (self.client.clone(), self.outcome.clone(), self.recorder.clone());
        let (uid, message) = (
            pod.uid.clone(),
            format!("Preempted by pod {} on node {node}", pod.uid),
        );
        self.scope.spawn_until_shutdown("preemption", async move {
            let ends = victims.iter().map(async |victim| {
                let ended = end_victim(&client, victim).await;
                match &ended {
                    Ok(()) => {
                        recorder.event(reference(victim), EventType::Normal, "Preempted", message.clone());
                    }
                    Err(status) => {
                        tracing::warn!(pod = %victim.key, error = %status, "pod not preempted; trying again");
                    }
                }
                ended.is_ok()
            });
            let done = join_all(ends).await.into_iter().all(|ended| ended);
            // The scheduler is gone only at shutdown.
            let _ = outcome.send(Outcome::Preempted { uid, done }).await;
        });
    }
}
