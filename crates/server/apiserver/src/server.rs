//! The server without any protocol: who may ask what, and who answers it.
//!
//! The in-process transport and the HTTP edge both end here: authorise, then the engine.

use std::sync::Arc;
use std::time::Duration;

use cloudeck_auth::{
    Attributes, Authorizer as _, ClusterAuthorizer, LocalIdentity, ObjectReader, TokenIssuer,
    TokenIssuerConfig, UserInfo, Watched, forbidden,
};
use cloudeck_client::{Client, Request, Response, Verb};
use cloudeck_engine::Store;
use cloudeck_machinery::{Object, Status, Value};
use cloudeck_task::Scope;

use crate::cache::Frontier;
use crate::cache::feed::{Feed, FeedError, Observer};
use crate::cache::pending::Pending;
use crate::cache::watcher::Watcher;
use crate::clock::{Clock, Ids};
use crate::components::{self, Components};
use crate::config::Config;
use crate::kinds::{Kind, Kinds, View};
use crate::registry::warnings::Warnings;
use crate::registry::{self, Call, options};
use crate::transport::InProcess;

/// The API server. Cheap to clone; clones are the same server.
#[derive(Clone)]
pub struct Server {
    pub(crate) core: Arc<Core>,
}

/// Everything that requests share.
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) kinds: Arc<Kinds>,
    pub(crate) frontier: Arc<Frontier>,
    pub(crate) feed: Arc<Feed>,
    pub(crate) pending: Arc<Pending>,
    pub(crate) authorizer: Arc<ClusterAuthorizer>,
    pub(crate) tokens: Arc<TokenIssuer>,
    pub(crate) clock: Clock,
    pub(crate) components: Components,
    pub(crate) ids: Ids,
    pub(crate) scope: Scope,
}

/// An answer and the warnings that go with it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Response,
    pub(crate) warnings: Vec<String>,
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("filling the watch caches")]
    Load(#[from] FeedError),
    #[error("creating the objects that every cluster has: {0}")]
    Bootstrap(Status),
}

impl Server {
    /// Fills the caches from `store`, creates what every cluster has, and serves in-process from now on.
    ///
    /// All that belongs to the server runs in a child of `scope`. A datastore that fails, or caches that can no longer
    /// follow it, bring `scope` itself down.
    pub async fn start(config: Config, store: Arc<dyn Store>, scope: &Scope) -> Result<Self, StartError> {
        let kinds = Arc::new(Kinds::from_schema());
        let frontier = Arc::new(Frontier::default());
        let pending = Arc::new(Pending::default());
        let authorizer = Arc::new(ClusterAuthorizer::new());
        let (parent, scope) = (scope, scope.child("apiserver"));
        let feed = Arc::new(Feed::new(
            Arc::clone(&store),
            Arc::clone(&kinds),
            Arc::clone(&frontier),
            Arc::clone(&pending),
            vec![Arc::new(AuthorizerFeed(Arc::clone(&authorizer)))],
        ));
        let stream = feed.load().await?;
        // Without either of them nothing can go on: a restart is the recovery.
        let (stop, follower) = (scope.shutdown_requested(), Arc::clone(&feed));
        parent.spawn_critical("cache-feed", async move {
            tokio::select! {
                ended = follower.run(stream) => ended,
                () = stop => Ok(()),
            }
        });
        let (stop, watched) = (scope.shutdown_requested(), Arc::clone(&store));
        parent.spawn_critical("datastore", async move {
            tokio::select! {
                reason = watched.failed() => Err(reason),
                () = stop => Ok(()),
            }
        });
        scope.spawn_until_shutdown(
            "api-horizon",
            crate::horizon::keep(Arc::clone(&store), config.api_horizon),
        );
        let clock = config.clock.clone();
        let tokens = TokenIssuerConfig {
            issuer: config.issuer.clone(),
            audiences: vec![config.issuer.clone()],
        };
        let tokens = Arc::new(TokenIssuer::new(tokens, Arc::clone(&config.token_key)));
        let core = Core {
            tokens,
            config,
            store,
            kinds,
            frontier,
            feed,
            pending,
            authorizer,
            clock,
            components: Components::default(),
            ids: Ids::new(),
            scope,
        };
        let server = Self { core: Arc::new(core) };
        let store = Arc::clone(&server.core.store);
        server.tell_of("etcd-0", move || store.status().poisoned.map_or(Ok(()), Err));
        crate::bootstrap::ensure(&server)
            .await
            .map_err(StartError::Bootstrap)?;
        let keep = crate::bootstrap::keep_service(server.clone());
        server.core.scope.spawn_until_shutdown("kubernetes-service", keep);
        let keep = crate::alloc::keep_addresses(server.clone());
        server.core.scope.spawn_until_shutdown("service-addresses", keep);
        Ok(server)
    }

    /// Lets ComponentStatuses tell of a part of the control plane under upstream's name of it.
    pub fn tell_of(
        &self,
        component: &'static str,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) {
        self.core.components.add(component, Arc::new(check));
    }

    /// Makes and checks the tokens of service accounts; the edge's authenticator and the node's want it, too.
    pub fn tokens(&self) -> Arc<TokenIssuer> {
        Arc::clone(&self.core.tokens)
    }

    /// Decides who may do what; the node's own server asks it, too.
    pub fn authorizer(&self) -> Arc<ClusterAuthorizer> {
        Arc::clone(&self.core.authorizer)
    }

    /// Present objects, for authentication elsewhere in the process.
    pub fn reader(&self) -> Arc<dyn ObjectReader> {
        Arc::clone(&self.core) as Arc<dyn ObjectReader>
    }

    /// A client that shares this server's objects and acts as `identity`.
    pub fn client(&self, identity: LocalIdentity) -> Client {
        let user = identity.user();
        // The programs that these identities belong to upstream: what managedFields name as manager.
        let agent = match (user.node_name(), user.service_account_key()) {
            (Some(_), _) => "kubelet",
            (_, Some(("kube-system", _))) => "kube-controller-manager",
            _ => user.name.rsplit(':').next().unwrap_or_default(),
        };
        let agent = agent.to_owned();
        self.client_as(identity, &agent)
    }

    /// As [`Server::client`], with a User-Agent of its own for managedFields.
    pub fn client_as(&self, identity: LocalIdentity, agent: &str) -> Client {
        Client::new(Arc::new(InProcess::new(self.clone(), identity, agent)))
    }

    /// The server without its protocol and life cycle, for what runs beside it: how far its caches are.
    pub fn revision(&self) -> u64 {
        self.core.frontier.revision()
    }

    /// Stops what the server runs.
    pub async fn shutdown(&self, deadline: Duration) {
        self.core.scope.shutdown(deadline).await;
    }

    /// Any verb but watch.
    pub(crate) async fn handle(
        &self,
        user: &Arc<UserInfo>,
        agent: &str,
        request: &Request,
    ) -> Result<Answer, Status> {
        self.core.authorize(user, request)?;
        let view = match self.core.view(request) {
            Ok(view) => view,
            Err(status) => {
                let response = self.answer_virtual(user, request).unwrap_or(Err(status))?;
                return Ok(Answer {
                    response,
                    warnings: Vec::new(),
                });
            }
        };
        let mut call = Call {
            core: &self.core,
            user,
            agent,
            request,
            view,
            warnings: Warnings::default(),
        };
        options::check(request)?;
        let response = dispatch(&mut call).await?;
        Ok(Answer {
            response,
            warnings: call.warnings.into_texts(),
        })
    }

    /// The answer of a kind without storage; `None` when there is no such kind.
    fn answer_virtual(&self, user: &Arc<UserInfo>, request: &Request) -> Option<Result<Response, Status>> {
        let resource = &request.resource;
        let info = cloudeck_schema::resource(&resource.group, &resource.version, &resource.resource)?;
        let stored = self.core.kinds.view(resource).is_some();
        let answer = || {
            options::check(request)?;
            crate::subresource::answer_virtual(&self.core, user, request, info)
        };
        (!stored).then(answer)
    }

    /// Opens a watch.
    pub(crate) async fn watch(
        &self,
        user: &Arc<UserInfo>,
        agent: &str,
        request: &Request,
    ) -> Result<(Arc<View>, Watcher), Status> {
        self.core.authorize(user, request)?;
        let view = self.core.view(request)?;
        if !view.info.has_verb("watch") || !request.subresource.is_empty() {
            return Err(no_such_method());
        }
        let call = Call {
            core: &self.core,
            user,
            agent,
            request,
            view,
            warnings: Warnings::default(),
        };
        let watcher = registry::watch::open(&call).await?;
        Ok((Arc::clone(view), watcher))
    }
}

async fn dispatch(call: &mut Call<'_>) -> Result<Response, Status> {
    let (info, request) = (call.view.info, call.request);
    if !request.subresource.is_empty() {
        return crate::subresource::dispatch(call).await;
    }
    if !info.has_verb(request.verb.as_str()) {
        return Err(no_such_method());
    }
    if call.kind().is("", "componentstatuses") {
        return components::answer(call);
    }
    match request.verb {
        Verb::Get => registry::read::get(call).await,
        Verb::List => registry::list::list(call).await,
        Verb::Create => registry::create::create(call).await,
        Verb::Update => registry::update::update(call).await,
        Verb::Patch => registry::patch::patch(call).await,
        Verb::Delete => registry::delete::delete(call).await,
        Verb::DeleteCollection => registry::delete::delete_collection(call).await,
        Verb::Watch => Err(Status::internal("a watch is not answered in one piece")),
    }
}

impl Core {
    /// 403 unless `user` may do what the request asks.
    pub(crate) fn authorize(&self, user: &UserInfo, request: &Request) -> Result<(), Status> {
        let resource = &request.resource;
        // A namespace lies in itself, so that rights within it can cover it.
        let itself = resource.resource == "namespaces" && resource.group.is_empty();
        let namespace = if itself { &request.name } else { &request.namespace };
        let selected = selected_name(request);
        let attributes = Attributes {
            user,
            verb: request.verb.as_str(),
            group: &resource.group,
            version: &resource.version,
            resource: &resource.resource,
            subresource: &request.subresource,
            namespace,
            name: selected.as_deref().unwrap_or(&request.name),
            path: "",
            field_selector: &request.params.field_selector,
        };
        let decision = self.authorizer.authorize(&attributes);
        if decision.is_allowed() {
            Ok(())
        } else {
            Err(forbidden(&attributes, &decision.reason))
        }
    }

    /// 403 unless `user` may ask for a path that is no resource.
    pub(crate) fn authorize_path(
        &self,
        user: &UserInfo,
        method: &http::Method,
        path: &str,
    ) -> Result<(), Status> {
        let verb = method.as_str().to_ascii_lowercase();
        let attributes = Attributes::path(user, &verb, path);
        let decision = self.authorizer.authorize(&attributes);
        if decision.is_allowed() {
            Ok(())
        } else {
            Err(forbidden(&attributes, &decision.reason))
        }
    }

    pub(crate) fn view(&self, request: &Request) -> Result<&Arc<View>, Status> {
        let view = self.kinds.view(&request.resource).ok_or_else(no_such_resource)?;
        let (namespaced, placed) = (view.info.namespaced, !request.namespace.is_empty());
        let of_one = match request.verb {
            Verb::List | Verb::Watch | Verb::DeleteCollection => false,
            _ => !request.name.is_empty(),
        };
        if placed && !namespaced || of_one && namespaced && !placed {
            return Err(no_such_resource());
        }
        // Across namespaces there is only reading.
        let has_method = match request.verb {
            Verb::List | Verb::Watch => true,
            Verb::Create => of_one != request.subresource.is_empty() && placed == namespaced,
            Verb::DeleteCollection => placed == namespaced,
            Verb::Get | Verb::Update | Verb::Patch | Verb::Delete => of_one,
        };
        if has_method {
            Ok(view)
        } else {
            Err(no_such_method())
        }
    }

    /// The storage kind of a built-in resource.
    ///
    /// # Panics
    /// When the schema does not serve it, which is a mistake in the program.
    pub(crate) fn stored(&self, group: &str, plural: &str) -> &Arc<Kind> {
        self.kinds
            .stored(group, plural)
            .unwrap_or_else(|| panic!("{plural}.{group} is not served"))
    }
}

/// The 404 of a path that names nothing.
pub(crate) fn no_such_resource() -> Status {
    Status::new(
        cloudeck_machinery::Reason::NotFound,
        "the server could not find the requested resource",
    )
    .with_details("", "", "")
}

/// The 405 of a path that has the resource but not the verb.
pub(crate) fn no_such_method() -> Status {
    Status::new(
        cloudeck_machinery::Reason::MethodNotAllowed,
        "the server does not allow this method on the requested resource",
    )
    .with_details("", "", "")
}

impl ObjectReader for Core {
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.kinds.stored(group, resource)?.cache.get(namespace, name)
    }

    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Object>> {
        let Some(kind) = self.kinds.stored(group, resource) else {
            return Vec::new();
        };
        kind.cache
            .snapshot(namespace, &self.frontier, None, usize::MAX, |_| true)
            .0
            .objects
    }
}

/// Shows role and pod changes to the authoriser before their writers hear of them.
struct AuthorizerFeed(Arc<ClusterAuthorizer>);

impl Observer for AuthorizerFeed {
    fn changed(&self, kind: &Kind, object: &Object, tree: Option<&Value>) {
        if let Some(watched) = Watched::of(kind.group(), kind.plural()) {
            self.0
                .observe(watched, &object.key.namespace, &object.key.name, tree);
        }
    }
}

/// A list or watch of one object by `metadata.name` is a request for that object, as upstream's request info has it.
fn selected_name(request: &Request) -> Option<String> {
    let of_collection = matches!(request.verb, Verb::List | Verb::Watch | Verb::DeleteCollection);
    if !of_collection || !request.name.is_empty() || request.params.field_selector.is_empty() {
        return None;
    }
    let selector = cloudeck_machinery::FieldSelector::parse(&request.params.field_selector).ok()?;
    selector.required_value("metadata.name").map(str::to_owned)
}

#[cfg(test)]
mod tests;
