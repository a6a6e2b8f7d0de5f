//! Cluster addresses and node ports of Services.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use cloudeck_engine::Txn;
use cloudeck_machinery::{Cause, CauseType, Status, Value};

use super::{address, range_key};
use crate::registry::Call;
use crate::server::Core;

const NODE_PORTS: &str = "nodeports";

/// What a service holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Holdings {
    pub(super) addresses: BTreeSet<String>,
    ports: BTreeSet<i64>,
}

impl Holdings {
    pub(super) fn of(service: &Value) -> Self {
        let listed = service
            .items_at(&["spec", "clusterIPs"])
            .iter()
            .filter_map(Value::as_str);
        let single = service.str_at(&["spec", "clusterIP"]);
        let addresses = listed
            .chain(single)
            .filter(|address| !matches!(*address, "" | "None"))
            .map(str::to_owned)
            .collect();
        let ports = service
            .items_at(&["spec", "ports"])
            .iter()
            .filter_map(|port| port.int_at(&["nodePort"]));
        let health = service.int_at(&["spec", "healthCheckNodePort"]);
        Self {
            addresses,
            ports: ports.chain(health).filter(|port| *port > 0).collect(),
        }
    }
}

pub(super) fn claim(call: &Call<'_>, new: &mut Value, old: Option<&Value>) -> Result<Txn, Status> {
    let core = call.core;
    if let Some(old) = old {
        keep_allocated(new, old);
    }
    let held = old.map(Holdings::of).unwrap_or_default();
    let name = new.str_at(&["metadata", "name"]).unwrap_or_default().to_owned();
    let refuse = |cause: Cause| Status::invalid("", "Service", &name, vec![cause]);
    settle_address(core, new, &held).map_err(refuse)?;
    settle_ports(core, new, &held).map_err(refuse)?;
    let wanted = Holdings::of(new);
    let namespace = call.request.namespace.as_str();
    let mut txn = Txn::new();
    for address in wanted.addresses.difference(&held.addresses) {
        txn = address::take(core, txn, address, namespace, &name);
    }
    for port in wanted.ports.difference(&held.ports) {
        let key = range_key(NODE_PORTS, &port.to_string());
        txn = txn
            .expect_absent(key.clone())
            .put(key, format!("{namespace}/{name}"));
    }
    Ok(give_back(core, txn, &held, &wanted))
}

pub(super) fn release(core: &Core, old: &Value) -> Txn {
    give_back(core, Txn::new(), &Holdings::of(old), &Holdings::default())
}

fn give_back(core: &Core, mut txn: Txn, held: &Holdings, kept: &Holdings) -> Txn {
    for address in held.addresses.difference(&kept.addresses) {
        txn = address::give_back(core, txn, address);
    }
    for port in held.ports.difference(&kept.ports) {
        txn = txn.delete(range_key(NODE_PORTS, &port.to_string()));
    }
    txn
}

/// As upstream: what an update leaves out and still needs is taken over from the stored service.
fn keep_allocated(new: &mut Value, old: &Value) {
    if needs_address(new) && needs_address(old) {
        if new.str_at(&["spec", "clusterIP"]).unwrap_or_default().is_empty()
            && new.items_at(&["spec", "clusterIPs"]).is_empty()
        {
            for field in ["clusterIP", "clusterIPs"] {
                if let Some(value) = old.at(&["spec", field]) {
                    new.set_at(&["spec", field], value.clone());
                }
            }
        }
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if new.at(&["spec", field]).is_none()
                && let Some(value) = old.at(&["spec", field])
            {
                new.set_at(&["spec", field], value.clone());
            }
        }
    }
    if needs_ports(new) && needs_ports(old) {
        keep_ports(new, old);
    }
}

fn keep_ports(new: &mut Value, old: &Value) {
    let known: Vec<(Value, Value, i64)> = old
        .items_at(&["spec", "ports"])
        .iter()
        .filter_map(|port| {
            Some((
                port.get("port")?.clone(),
                protocol(port),
                port.int_at(&["nodePort"])?,
            ))
        })
        .collect();
    let mut used: BTreeSet<i64> = new
        .items_at(&["spec", "ports"])
        .iter()
        .filter_map(|port| port.int_at(&["nodePort"]))
        .collect();
    let ports = new.at_mut(&["spec", "ports"]).and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten() {
        if port.int_at(&["nodePort"]).unwrap_or(0) != 0 {
            continue;
        }
        let kept = known.iter().find(|(number, of, node)| {
            Some(number) == port.get("port") && *of == protocol(port) && !used.contains(node)
        });
        if let Some((_, _, node)) = kept {
            used.insert(*node);
            port.set_at(&["nodePort"], *node);
        }
    }
}

fn protocol(port: &Value) -> Value {
    port.get("protocol").cloned().unwrap_or_else(|| "TCP".into())
}

fn kind_of(service: &Value) -> &str {
    service
        .str_at(&["spec", "type"])
        .filter(|kind| !kind.is_empty())
        .unwrap_or("ClusterIP")
}

fn needs_address(service: &Value) -> bool {
    matches!(kind_of(service), "ClusterIP" | "NodePort" | "LoadBalancer")
}

fn needs_ports(service: &Value) -> bool {
    match kind_of(service) {
        "NodePort" => true,
        "LoadBalancer" => service
            .bool_at(&["spec", "allocateLoadBalancerNodePorts"])
            .unwrap_or(true),
        _ => false,
    }
}

fn settle_address(core: &Core, service: &mut Value, held: &Holdings) -> Result<(), Cause> {
    if !needs_address(service) {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            service.remove_at(&["spec", field]);
        }
        return Ok(());
    }
    let listed = service
        .items_at(&["spec", "clusterIPs"])
        .first()
        .and_then(Value::as_str);
    let single = service
        .str_at(&["spec", "clusterIP"])
        .filter(|address| !address.is_empty());
    let chosen = match single.or(listed).map(str::to_owned) {
        Some(address) if address == "None" || held.addresses.contains(&address) => address,
        Some(address) => {
            check_address(core, &address)?;
            address
        }
        None => address::choose(core)
            .map(|address| address.to_string())
            .ok_or_else(|| {
                let why = "failed to allocate a serviceIP: range is full";
                invalid("spec.clusterIPs", "[]", why)
            })?,
    };
    service.set_at(&["spec", "clusterIP"], chosen.as_str());
    service.set_at(&["spec", "clusterIPs"], vec![Value::from(chosen)]);
    if service.at(&["spec", "ipFamilies"]).is_none() {
        service.set_at(&["spec", "ipFamilies"], vec![Value::from("IPv4")]);
    }
    if service.at(&["spec", "ipFamilyPolicy"]).is_none() {
        service.set_at(&["spec", "ipFamilyPolicy"], "SingleStack");
    }
    Ok(())
}

fn check_address(core: &Core, text: &str) -> Result<(), Cause> {
    let refuse = |why: String| {
        invalid(
            "spec.clusterIPs",
            &format!("[{text:?}]"),
            &format!("failed to allocate IP {text}: {why}"),
        )
    };
    let Ok(address) = text.parse::<Ipv4Addr>() else {
        // Validation says what is wrong with it.
        return Ok(());
    };
    address::check(core, address).map_err(refuse)?;
    if address::is_taken(core, address) {
        return Err(refuse("provided IP is already allocated".into()));
    }
    Ok(())
}

fn settle_ports(core: &Core, service: &mut Value, held: &Holdings) -> Result<(), Cause> {
    let ports = service
        .at(&["spec", "ports"])
        .and_then(Value::as_array)
        .unwrap_or_default()
        .to_vec();
    let needed = needs_ports(service);
    let mut taken = Taken::new(core, held);
    let mut settled = Vec::with_capacity(ports.len());
    for (at, mut port) in ports.into_iter().enumerate() {
        let wanted = port.int_at(&["nodePort"]).unwrap_or(0);
        if !needed && kind_of(service) != "LoadBalancer" {
            port.remove_at(&["nodePort"]);
        } else if wanted != 0 {
            taken.claim(core, wanted, &format!("spec.ports[{at}].nodePort"))?;
        } else if needed {
            port.set_at(
                &["nodePort"],
                taken.choose(core, &format!("spec.ports[{at}].nodePort"))?,
            );
        }
        settled.push(port);
    }
    if !settled.is_empty() {
        service.set_at(&["spec", "ports"], settled);
    }
    settle_health_port(core, service, &mut taken)
}

fn settle_health_port(core: &Core, service: &mut Value, taken: &mut Taken) -> Result<(), Cause> {
    let local = service.str_at(&["spec", "externalTrafficPolicy"]) == Some("Local");
    if kind_of(service) != "LoadBalancer" || !local {
        service.remove_at(&["spec", "healthCheckNodePort"]);
        return Ok(());
    }
    match service.int_at(&["spec", "healthCheckNodePort"]).unwrap_or(0) {
        0 => {
            let port = taken.choose(core, "spec.healthCheckNodePort")?;
            service.set_at(&["spec", "healthCheckNodePort"], port);
            Ok(())
        }
        wanted => taken.claim(core, wanted, "spec.healthCheckNodePort"),
    }
}

/// Node ports that others have, and those this service has got so far.
struct Taken<'a> {
    others: BTreeSet<i64>,
    held: &'a Holdings,
    own: BTreeSet<i64>,
}

impl<'a> Taken<'a> {
    fn new(core: &Core, held: &'a Holdings) -> Self {
        let services = core.stored("", "services");
        let (all, _) = services
            .cache
            .snapshot("", &core.frontier, None, usize::MAX, |_| true);
        let all = all
            .objects
            .iter()
            .flat_map(|service| Holdings::of(&service.tree()).ports);
        let others = all.filter(|port| !held.ports.contains(port)).collect();
        Self {
            others,
            held,
            own: BTreeSet::new(),
        }
    }

    fn claim(&mut self, core: &Core, port: i64, field: &str) -> Result<(), Cause> {
        let range = &core.config.node_ports;
        let inside = u16::try_from(port).is_ok_and(|port| range.contains(&port));
        if !inside && !self.held.ports.contains(&port) {
            let why = format!(
                "provided port is not in the valid range. The range of valid ports is {}-{}",
                range.start(),
                range.end()
            );
            return Err(invalid(field, &port.to_string(), &why));
        }
        if self.others.contains(&port) {
            return Err(invalid(
                field,
                &port.to_string(),
                "provided port is already allocated",
            ));
        }
        // TCP and UDP may share a number within one service.
        self.own.insert(port);
        Ok(())
    }

    fn choose(&mut self, core: &Core, field: &str) -> Result<i64, Cause> {
        let range = core.config.node_ports.clone();
        let (start, count) = (i64::from(*range.start()), range.len() as i64);
        // Ports for those who ask by number, as upstream reserves them.
        let band = if count < 16 {
            0
        } else {
            (count / 32).clamp(16, 128)
        };
        let random = i64::from(u16::from_le_bytes(core.ids.bytes()));
        let upper = count - band;
        let tried = (0..upper).map(|at| band + (at + random) % upper).chain(0..band);
        let free = tried.map(|at| start + at).find(|port| {
            !self.others.contains(port) && !self.own.contains(port) && !self.held.ports.contains(port)
        });
        let port = free.ok_or_else(|| invalid(field, "0", "failed to allocate a nodePort: range is full"))?;
        self.own.insert(port);
        Ok(port)
    }
}

fn invalid(field: &str, value: &str, why: &str) -> Cause {
    Cause {
        cause: CauseType::Invalid,
        message: format!("Invalid value: {value}: {why}"),
        field: field.to_owned(),
    }
}
