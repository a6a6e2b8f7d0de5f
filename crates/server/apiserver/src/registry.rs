//! The generic engine behind every resource: one set of verbs that knows no kind.
//!
//! A write goes decode → default → prepare → managedFields → mutate-admit → validate → validate-admit → one
//! compare-and-swap transaction → wait until every cache has it. Reads come from the watch cache.

pub(crate) mod admit;
pub(crate) mod apply;
pub(crate) mod certificates;
pub(crate) mod commit;
pub(crate) mod create;
pub(crate) mod decode;
pub(crate) mod delete;
pub(crate) mod facts;
pub(crate) mod grants;
pub(crate) mod list;
pub(crate) mod meta;
pub(crate) mod metadata_rules;
pub(crate) mod options;
pub(crate) mod ownership;
pub(crate) mod patch;
pub(crate) mod quota;
pub(crate) mod read;
pub(crate) mod subobject;
pub(crate) mod update;
pub(crate) mod warnings;
pub(crate) mod watch;

use std::sync::Arc;

use cloudeck_auth::UserInfo;
use cloudeck_client::{Request, Response};
use cloudeck_machinery::{Object, Status};

use crate::kinds::{Kind, View};
use crate::server::Core;

/// One request on its way through the engine.
pub(crate) struct Call<'a> {
    pub(crate) core: &'a Arc<Core>,
    pub(crate) user: &'a Arc<UserInfo>,
    /// The User-Agent, for managedFields.
    pub(crate) agent: &'a str,
    pub(crate) request: &'a Request,
    pub(crate) view: &'a Arc<View>,
    /// Sent as `Warning` headers.
    pub(crate) warnings: warnings::Warnings,
}

impl Call<'_> {
    pub(crate) fn kind(&self) -> &Arc<Kind> {
        &self.view.kind
    }

    pub(crate) fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.add(warning.into());
    }

    pub(crate) fn is_dry_run(&self) -> bool {
        !self.request.params.dry_run.is_empty()
    }

    pub(crate) fn not_found(&self) -> Status {
        Status::not_found(self.view.group(), self.view.plural(), &self.request.name)
    }

    /// The stored object that the request names.
    pub(crate) fn current(&self) -> Result<Arc<Object>, Status> {
        self.kind()
            .cache
            .get(&self.request.namespace, &self.request.name)
            .ok_or_else(|| self.not_found())
    }

    pub(crate) fn answer(&self, object: &Arc<Object>, created: bool) -> Response {
        Response::Object {
            object: self.view.present(object),
            created,
        }
    }
}
