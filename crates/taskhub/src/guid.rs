//! Ids and numbers that come out the same on every replay (R200–R202).

use taskhub_core::id::{ExecutionId, InstanceId};
use taskhub_core::time::Timestamp;
use uuid::Uuid;

/// Namespace of the .NET isolated SDK (R201).
const NAMESPACE: Uuid = Uuid::from_u128(0x9e95_2958_5e33_4daf_827f_2fa1_2937_b875);

/// The guid with a number within its execution. The execution's id is what makes it unique: a clock may be set back, and
/// two executions of an instance may begin at the same moment.
pub(crate) fn guid(instance: &InstanceId, execution: ExecutionId, now: Timestamp, counter: u64) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("{instance}_{execution}_{now}_{counter}").as_bytes())
}

/// The random number with a number within its execution: the mixing function of SplitMix64 over all of
/// its inputs. For choices and jitter, not for secrets.
pub(crate) fn random(execution: ExecutionId, now: Timestamp, counter: u64) -> u64 {
    let (high, low) = Uuid::from_bytes(*execution.bytes()).as_u64_pair();
    let inputs = [high, low, now.ticks().cast_unsigned(), counter];
    inputs.into_iter().fold(0, |state, input| mix(state ^ input))
}

fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_guid_vectors() {
        let instance = InstanceId::new("inst").unwrap();
        let (one, other) = (ExecutionId::new([1; 16]), ExecutionId::new([2; 16]));
        let now = Timestamp::parse("2024-01-02T03:04:05.1234567Z").unwrap();
        assert_eq!(
            guid(&instance, one, now, 0).to_string(),
            "d92f7299-142c-52a5-8d42-e15e6ee27369"
        );
        assert_ne!(guid(&instance, one, now, 1), guid(&instance, one, now, 0));
        assert_ne!(guid(&instance, other, now, 0), guid(&instance, one, now, 0));
    }

    #[test]
    fn random_numbers_depend_on_execution_time_and_counter() {
        let (one, other) = (ExecutionId::new([1; 16]), ExecutionId::new([2; 16]));
        let (now, later) = (Timestamp::from_micros(1), Timestamp::from_micros(2));
        let numbers = [
            random(one, now, 0),
            random(one, now, 1),
            random(one, later, 0),
            random(other, now, 0),
        ];
        for (place, number) in numbers.iter().enumerate() {
            assert!(!numbers[..place].contains(number));
        }
        assert_eq!(random(one, now, 0), numbers[0]);
    }
}
