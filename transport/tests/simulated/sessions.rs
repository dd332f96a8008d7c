//! What an idle host's sessions cost, as the benchmark counts it.

#[path = "../../benches/relay/keeping.rs"]
mod keeping;

#[test]
fn an_hour_of_a_session_costs_225_datagrams_at_most() {
    for sessions in [1, 2, 4] {
        let (datagrams, bytes) = keeping::hour(sessions);
        println!("{sessions} sessions: {datagrams} datagrams, {bytes} bytes an hour");
        // Four signs of life in 80 s, one of which is answered.
        assert!(datagrams >= 200 * sessions as u64, "{datagrams}: none is kept");
        assert!(datagrams <= 225 * sessions as u64 + 5, "{sessions}: {datagrams}");
    }
}
