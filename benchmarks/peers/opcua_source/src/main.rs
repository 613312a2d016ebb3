//! An OPC UA server that changes many variables fast enough not to hold up whoever measures a client (async-opcua).
//!
//! usage: opcua_source ITEMS CHANGES MIXED
//!   ITEMS variables v0, v1, ... of which CHANGES a second change, in turn; every MIXED-th is an Int32 and the others are Double (0: all are)
//!
//! Namespace urn:blackmass:bench, everything in the folder Bench: `v0` ... only read; `w0` to `w99`, Double, can be written; `identity`, a UInt16,
//! is 4321. The value of a Double is its number of changes + its number / 1e6, so that a client can tell that it is the right one's; of an
//! Int32 the number of changes. Listens on 127.0.0.1 without security; prints {"port": N, "namespace": its index} when ready. For each line on its standard input it says
//! what it has done since the last one: {"changes": N, "notifications": M}, M being N counted once for each client that monitors the
//! variable. The line `rate CHANGES` changes the rate as well. Ends when its standard input closes.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use opcua::crypto::SecurityPolicy;
use opcua::nodes::NodeType;
use opcua::server::address_space::{AccessLevel, VariableBuilder};
use opcua::server::diagnostics::NamespaceMetadata;
use opcua::server::node_manager::memory::{simple_node_manager, SimpleNodeManager};
use opcua::server::{ServerBuilder, SubscriptionCache, ANONYMOUS_USER_TOKEN_ID};
use opcua::types::{AttributeId, DataTypeId, DataValue, DateTime, MessageSecurityMode, NodeId, QualifiedName, TimestampsToReturn, Variant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::MissedTickBehavior;

const URI: &str = "urn:blackmass:bench";
const WRITABLE: usize = 100;
const IDENTITY: u16 = 4321;
const TICK: Duration = Duration::from_millis(5);

struct Bench {
    manager: Arc<SimpleNodeManager>,
    subscriptions: Arc<SubscriptionCache>,
    nodes: Vec<NodeId>,
    counts: Vec<u32>,
    mixed: usize,
    next: usize,
    changes: u64,
    notifications: Cell<u64>,
}

fn value(index: usize, count: u32, mixed: usize) -> Variant {
    if mixed > 0 && index % mixed == mixed - 1 {
        Variant::Int32(count as i32)
    } else {
        Variant::Double(f64::from(count) + index as f64 / 1e6)
    }
}

impl Bench {
    fn new(manager: Arc<SimpleNodeManager>, subscriptions: Arc<SubscriptionCache>, namespace: u16, items: usize, mixed: usize) -> Self {
        let nodes: Vec<NodeId> = (0..items).map(|index| NodeId::new(namespace, format!("v{index}"))).collect();
        {
            let mut space = manager.address_space().write();
            let folder = NodeId::new(namespace, "Bench");
            space.add_folder(&folder, QualifiedName::new(namespace, "Bench"), "Bench", &NodeId::objects_folder_id());
            let mut add = |name: String, value: Variant, kind: DataTypeId, writable: bool| {
                let access = if writable { AccessLevel::CURRENT_READ | AccessLevel::CURRENT_WRITE } else { AccessLevel::CURRENT_READ };
                VariableBuilder::new(&NodeId::new(namespace, name.clone()), QualifiedName::new(namespace, name.as_str()), name.as_str())
                    .data_type(kind)
                    .value(value)
                    .access_level(access)
                    .user_access_level(access)
                    .organized_by(folder.clone())
                    .insert(&mut *space);
            };
            for index in 0..items {
                let start = value(index, 0, mixed);
                let kind = if matches!(start, Variant::Int32(_)) { DataTypeId::Int32 } else { DataTypeId::Double };
                add(format!("v{index}"), start, kind, false);
            }
            for index in 0..WRITABLE {
                add(format!("w{index}"), Variant::Double(0.0), DataTypeId::Double, true);
            }
            add("identity".to_owned(), Variant::UInt16(IDENTITY), DataTypeId::UInt16, false);
        }
        Self { manager, subscriptions, nodes, counts: vec![0; items], mixed, next: 0, changes: 0, notifications: Cell::new(0) }
    }

    /// Change the next variables in turn.
    fn change(&mut self, how_many: usize) {
        let now = DateTime::now();
        let mut space = self.manager.address_space().write();
        let mut changed = Vec::with_capacity(how_many);
        for _ in 0..how_many {
            let index = self.next;
            self.next = (index + 1) % self.nodes.len();
            self.counts[index] += 1;
            let new = DataValue::new_at(value(index, self.counts[index], self.mixed), now);
            if let Some(NodeType::Variable(variable)) = space.find_mut(&self.nodes[index]) {
                variable.set_data_value(new);
            }
            changed.push(index);
        }
        self.changes += how_many as u64;
        self.subscriptions.maybe_notify(changed.iter().map(|&index| (&self.nodes[index], AttributeId::Value)), |node, attribute, range, encoding| {
            self.notifications.set(self.notifications.get() + 1);
            space.find(node)?.as_node().get_attribute(TimestampsToReturn::Both, attribute, range, encoding)
        });
    }

    fn report(&mut self) -> String {
        let text = format!("{{\"changes\": {}, \"notifications\": {}}}", self.changes, self.notifications.get());
        self.changes = 0;
        self.notifications.set(0);
        text
    }
}

/// The changes that are due since the rate was last set.
struct Pace {
    rate: f64,
    since: Instant,
    done: u64,
}

impl Pace {
    fn new(rate: f64) -> Self {
        Self { rate, since: Instant::now(), done: 0 }
    }

    fn due(&mut self) -> usize {
        let all = (self.since.elapsed().as_secs_f64() * self.rate) as u64;
        let due = all - self.done;
        self.done = all;
        due as usize
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<f64> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let &[items, rate, mixed] = arguments.as_slice() else {
        eprintln!("usage: opcua_source ITEMS CHANGES MIXED");
        std::process::exit(2);
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port on 127.0.0.1");
    let port = listener.local_addr().expect("a bound socket").port();
    let scratch = std::env::temp_dir().join(format!("opcua_source-{}", std::process::id())); // for certificates, of which there are none
    let mut builder = ServerBuilder::new()
        .application_name("blackmass bench")
        .application_uri("urn:blackmass:bench:server")
        .product_uri("urn:blackmass:bench:server")
        .host("127.0.0.1")
        .port(port)
        .pki_dir(&scratch)
        .subscription_poll_interval_ms(10)
        .discovery_urls(vec![format!("opc.tcp://127.0.0.1:{port}/")])
        .add_endpoint("none", ("/", SecurityPolicy::None, MessageSecurityMode::None, &[ANONYMOUS_USER_TOKEN_ID] as &[&str]))
        .with_node_manager(simple_node_manager(NamespaceMetadata { namespace_uri: URI.to_owned(), ..Default::default() }, "bench"))
        .max_array_length(1 << 20)
        .max_message_size(1 << 26)
        .max_chunk_count(0);
    let limits = builder.limits_mut();
    limits.subscriptions.max_monitored_items_per_sub = 1 << 20;
    limits.subscriptions.max_monitored_item_queue_size = 1000;
    limits.subscriptions.min_sampling_interval_ms = 1.0;
    limits.subscriptions.min_publishing_interval_ms = 10.0;
    limits.operational.max_monitored_items_per_call = 1 << 20;
    limits.operational.max_nodes_per_read = 1 << 20;
    limits.operational.max_nodes_per_write = 1 << 20;
    limits.operational.max_nodes_per_browse = 1 << 20;
    limits.operational.max_nodes_per_translate_browse_paths_to_node_ids = 1 << 20;
    limits.operational.max_nodes_per_register_nodes = 1 << 20;
    let (server, handle) = builder.build().expect("a server");
    let manager = handle.node_managers().get_of_type::<SimpleNodeManager>().expect("the node manager of the bench");
    let namespace = handle.get_namespace_index(URI).expect("the namespace of the bench");
    let mut bench = Bench::new(manager, handle.subscriptions().clone(), namespace, items as usize, mixed as usize);
    let serving = tokio::spawn(server.run_with(listener));

    println!("{{\"port\": {port}, \"namespace\": {namespace}}}");
    let mut pace = Pace::new(rate);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            _ = tick.tick() => bench.change(pace.due()),
            line = lines.next_line() => {
                let Ok(Some(line)) = line else { break };
                if let Some(rate) = line.strip_prefix("rate ").and_then(|text| text.trim().parse().ok()) {
                    pace = Pace::new(rate);
                }
                println!("{}", bench.report());
            }
        }
    }
    handle.cancel();
    let _ = tokio::time::timeout(Duration::from_secs(1), serving).await;
    let _ = std::fs::remove_dir_all(scratch);
}
