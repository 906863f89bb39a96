//! Stub.
use tally_sdk::wire::exports::tally::aggregator::aggregator::*;
use tally_sdk::wire::tally::aggregator::types::*;
#[allow(missing_docs)]
pub struct C;
#[allow(missing_docs)]
pub struct A(std::cell::Cell<i64>);
impl Guest for C {
    type Accumulator = A;
    fn describe() -> Description {
        Description { name: "video-actions".into(), version: "0.1.0".into(), summary: "".into(), settings_schema: "{}".into() }
    }
    fn configure(_: String) -> Result<Manifest, String> {
        Ok(Manifest { fields: vec![Field{path:"/user_id".into(), kind: Kind::Text}], event_types: vec![EventType{name:"action".into(), required: vec![0], optional: vec![]}], ordering: Ordering::Commutative, state_version: "0".into(), loads: vec![], refusals: vec![] })
    }
}
impl GuestAccumulator for A {
    fn new() -> A { A(Default::default()) }
    fn apply(&self, b: Batch) -> Vec<Refusal> { self.0.set(self.0.get() + b.times.len() as i64); vec![] }
    fn merge(&self, l: AccumulatorBorrow<'_>) { self.0.set(self.0.get() + l.get::<A>().0.get()); }
    fn save(&self) -> Vec<u8> { self.0.get().to_le_bytes().to_vec() }
    fn load(_: String, b: Vec<u8>) -> Result<Accumulator, String> { Ok(Accumulator::new(A(std::cell::Cell::new(i64::from_le_bytes(b.try_into().map_err(|_| "short")?))))) }
    fn report(&self, _: Question) -> Result<Vec<Table>, String> {
        Ok(vec![Table{name:"summary".into(), rows_left_out:0, columns: vec![NamedColumn{name:"total_events".into(), kind: Kind::Integer, role: Role::Counter, column: tally_sdk::wire::tally::aggregator::columns::Column{ values: tally_sdk::wire::tally::aggregator::columns::Values::Integers(vec![self.0.get()]), present: vec![]}}]}])
    }
}
#[cfg(target_family = "wasm")]
tally_sdk::wire::export_component!(C with_types_in tally_sdk::wire);
