//! The slots against a supervisor that answers late, or never has an enforcer.

use palisade_domain::Slot;
use proptest::prelude::{prop, prop_assert, prop_assert_eq, proptest};

use super::{Effect, Input, Slots};

/// One slot as the world sees it: what is asked of the supervisor and not answered yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Nothing,
    Start(u32),
    Stop,
    Release,
}

proptest! {
    /// Whatever is told while a start or a stop is on its way: one request at a time, no release under an enforcer, and in the end
    /// whoever was told last has the slot.
    #[test]
    fn unit_roster_slot_has_one_enforcer_and_one_request_at_a_time(acts in prop::collection::vec(0..5u8, 0..60)) {
        let mut slots = Slots::default();
        let (mut asked, mut serves, mut last, mut held) = (Asked::Nothing, None, None, false);
        // Whether the kernel may hold another than the next: what a release takes away.
        for (number, act) in (0u32..).zip(acts.into_iter().chain([4; 8])) {
            let input = match (act, asked) {
                (0 | 1, _) => {
                    last = Some(number);
                    Input::Appeared { who: number, moves_in: held && act == 1 }
                }
                (2, _) => {
                    last = None;
                    Input::Gone
                }
                (_, Asked::Start(who)) => {
                    // No enforcer can be had: as if nobody had been told.
                    let ok = act != 3;
                    serves = ok.then_some(who);
                    if !ok && last == Some(who) {
                        last = None;
                    }
                    asked = Asked::Nothing;
                    Input::Started(ok)
                }
                (_, Asked::Stop) => {
                    (serves, asked) = (None, Asked::Nothing);
                    Input::Stopped
                }
                (_, Asked::Release) => {
                    (held, asked) = (false, Asked::Nothing);
                    Input::Released
                }
                (_, Asked::Nothing) => continue,
            };
            let mut out = Vec::new();
            slots.step(Slot(1), input, &mut out);
            for effect in out {
                prop_assert_eq!(asked, Asked::Nothing, "{:?} overtakes", effect);
                match effect {
                    Effect::Start(who) => {
                        prop_assert!(serves.is_none());
                        (asked, held) = (Asked::Start(who), true);
                    }
                    Effect::Stop => {
                        prop_assert!(serves.is_some());
                        asked = Asked::Stop;
                    }
                    Effect::Release => {
                        prop_assert!(serves.is_none(), "released under its enforcer");
                        asked = Asked::Release;
                    }
                }
            }
        }
        prop_assert_eq!((asked, serves), (Asked::Nothing, last));
    }
}
