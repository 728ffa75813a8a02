//! Conversations as they are on the wire, cut anywhere.

use proptest::prelude::*;

use crate::proxy::note::{Announced, Look, Note, Outcome, Passed, Spoken, Uncopied};
use crate::proxy::overhear::{follow, listener, overhear};
use crate::proxy::teller::Overheard;

const PATH: &str = "/v2/models/m/infer";

fn passed(overheard: &Overheard) -> &Passed {
    match &overheard.0 {
        Note::Passed(passed) => passed,
        other => panic!("{other:?}"),
    }
}

fn announced(overheard: &Overheard) -> &Announced {
    match &passed(overheard).look {
        Look::Copied(announced) => announced,
        other => panic!("{other:?}"),
    }
}

fn bodies(told: &[Overheard]) -> Vec<(&[u8], &[u8])> {
    told.iter().map(|(_, request, answer)| (request.as_slice(), answer.as_slice())).collect()
}

fn outcomes(told: &[Overheard]) -> Vec<Outcome> {
    told.iter().map(|overheard| passed(overheard).outcome).collect()
}

/// Everything told, without the order of inferences that overtake each other.
fn all(asked: &[u8], answered: &[u8], piece: usize) -> (Vec<Overheard>, u64) {
    let (mut told, missed) = follow(asked, answered, piece);
    told.sort_by(|one, other| one.1.cmp(&other.1));
    (told, missed)
}

fn cut_anywhere((asked, answered): &(Vec<u8>, Vec<u8>)) {
    let whole = all(asked, answered, asked.len());
    for piece in 1..100 {
        assert_eq!(all(asked, answered, piece), whole, "pieces of {piece}");
    }
}

fn post(fields: &str, body: &str) -> String {
    format!("POST {PATH} HTTP/1.1\r\nHost: m\r\n{fields}\r\n{body}")
}

mod one {
    use super::*;

    /// Bodies of every kind, all asked before the first was answered.
    pub(super) fn conversation() -> (Vec<u8>, Vec<u8>) {
        let asked = [
            post("Content-Length: 5\r\nExpect: 100-continue\r\n", "first"),
            "GET /v2/health/ready HTTP/1.1\r\nHost: m\r\n\r\n".to_owned(),
            post(
                "Transfer-Encoding: gzip, Chunked\r\nInference-Header-Content-Length: 2\r\n",
                "3;x=\"1\"\r\nsec\r\n0003\r\nond\r\n0\r\nTrailer: 1\r\n\r\n",
            ),
            "HEAD /v2/models/m/infer HTTP/1.1\r\nHost: m\r\n\r\n".to_owned(),
            post("Content-Length: 5\r\n", "third"),
            "\r\n".to_owned(),
            post("content-LENGTH: 6\r\n", "fourth"),
        ];
        let answered = [
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nInference-Header-Content-Length: 1\r\n\r\n1\r\nt\r\n2\r\nwo\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
            "HTTP/1.1 500 Oops\r\nContent-Length: 5\r\n\r\nthree",
            "HTTP/1.0 200 OK\r\n\r\nuntil the end",
        ];
        (asked.concat().into(), answered.concat().into())
    }

    #[test]
    fn every_inference_of_a_connection_is_told_with_its_bodies() {
        let (asked, answered) = conversation();
        let (told, missed) = all(&asked, &answered, asked.len());
        assert_eq!((outcomes(&told), missed), (vec![Outcome::Ok, Outcome::Ok, Outcome::Ok, Outcome::ServerError], 0));
        let wanted: [(&[u8], &[u8]); 4] =
            [(b"first", b"one"), (b"fourth", b"until the end"), (b"second", b"two"), (b"third", b"")];
        assert_eq!(bodies(&told), wanted);
        let Spoken::Http { request_json, answer_json, model, .. } = &announced(&told[2]).spoken else {
            panic!("{told:?}")
        };
        assert_eq!((*request_json, *answer_json, model.as_str()), (Some(2), Some(1), "m"));
        assert!(told.iter().all(|overheard| passed(overheard).latency.is_some()));
    }

    #[test]
    fn however_it_is_cut_the_same_is_told() {
        cut_anywhere(&conversation());
    }

    #[test]
    fn what_is_cut_off_is_told_as_such() {
        let request = post("Content-Length: 5\r\n", "first");
        let of = |asked: &str, answered: &str| {
            let (told, missed) = follow(asked.as_bytes(), answered.as_bytes(), 7);
            assert_eq!(missed, 0);
            told
        };
        let told = of(&request, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfir");
        assert_eq!(outcomes(&told), [Outcome::Broken]);
        assert_eq!(announced(&told[0]).request, Ok(5));
        let told = of(&request, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
        assert_eq!(outcomes(&told), [Outcome::Broken]);
        let told = of(&request[..request.len() - 1], "");
        assert_eq!(passed(&told[0]).outcome, Outcome::Unreachable);
        assert!(matches!(&told[1].0, Note::Unanswered { why, .. } if why.contains("without an answer")), "{told:?}");
    }

    #[test]
    fn an_answer_that_did_not_wait_for_the_request_is_followed_and_so_is_the_next() {
        let (mut follower, _watch, mut notes) = listener();
        follower.asked(post("Content-Length: 10\r\n", "12345").as_bytes());
        follower.answered(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno");
        follower.asked(b"67890");
        assert!(follower.is_idle());
        follower.asked(post("Content-Length: 2\r\n", "ok").as_bytes());
        assert!(!follower.is_idle());
        follower.answered(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        assert!(follower.is_idle());
        let (told, _) = notes.take();
        assert_eq!(outcomes(&told), [Outcome::ClientError, Outcome::Ok]);
        assert_eq!((announced(&told[0]).request, passed(&told[0]).latency), (Err(Uncopied::Incomplete), None));
    }

    #[test]
    fn who_goes_away_first_is_to_blame() {
        let (mut follower, _watch, mut notes) = listener();
        follower.asked(post("Content-Length: 2\r\n", "ok").as_bytes());
        follower.client_ended();
        follower.server_ended(false);
        drop(follower);
        let (told, _) = notes.take();
        assert_eq!(outcomes(&told), [Outcome::Broken]);
    }

    #[test]
    fn a_broken_connection_is_no_end_of_a_body() {
        let (mut follower, _watch, mut notes) = listener();
        follower.asked(post("Content-Length: 2\r\n", "ok").as_bytes());
        follower.answered(b"HTTP/1.0 200 OK\r\n\r\nhalf");
        follower.server_ended(true);
        drop(follower);
        assert_eq!(outcomes(&notes.take().0), [Outcome::Broken]);
    }

    #[test]
    fn what_cannot_be_followed_is_said_and_what_was_on_its_way_counted() {
        let (none, odd) = ("", "HTTP/1.1 20 OK\r\n\r\n");
        for (asked, answered, why, counted) in [
            ("\u{16}\u{3}\u{1} hello\r\n\r\n".to_owned(), none, "is TLS", 0),
            ("\u{5}\u{1}\u{0}\r\n\r\n".to_owned(), none, "is not HTTP", 0),
            ("PRIVATE".into(), none, "frames", 0),
            (post("Content-Length: five\r\n", ""), none, "length", 0),
            (post("Content-Length: 5\r\nContent-Length: 6\r\n", ""), none, "length", 0),
            (post("Transfer-Encoding: chunked\r\n", "x\r\n"), none, "pieces", 1),
            (post("Transfer-Encoding: chunked\r\n", "\r\n"), none, "pieces", 1),
            (post("Transfer-Encoding: chunked\r\n", "11111111111111111\r\n"), none, "pieces", 1),
            (post("Transfer-Encoding: chunked\r\n", "1\r\nabc"), none, "pieces", 1),
            (post("Transfer-Encoding: chunked\r\n", &format!("1;{}", "x".repeat(9000))), none, "pieces", 1),
            (post(&format!("X: {}\r\n", "x".repeat(200_000)), ""), none, "head of more", 0),
            (post(&"X: x\r\n".repeat(200), ""), none, "is not HTTP", 0),
            ("GET / HTTP/1.1\r\n\r\n".repeat(100), none, "open at a time", 0),
            (post("Content-Length: 0\r\n", ""), odd, "is not HTTP", 1),
        ] {
            for piece in [1, asked.len()] {
                let (told, missed) = follow(asked.as_bytes(), answered.as_bytes(), piece);
                let [(Note::Unread { why: said, .. }, ..)] = told.as_slice() else { panic!("{asked:.60}: {told:?}") };
                assert!(said.contains(why), "{asked:.60}: {said}");
                assert_eq!(missed, counted, "{asked:.60}");
            }
        }
    }

    #[test]
    fn a_tunnel_is_not_followed_and_nothing_is_wrong_with_it() {
        let asked = "GET /chat HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n\u{1}\u{2}";
        let answered = "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n\u{1}\u{2}";
        let (mut follower, _watch, mut notes) = listener();
        follower.asked(asked.split_at(asked.len() - 2).0.as_bytes());
        follower.answered(answered.as_bytes());
        follower.asked(b"\x01\x02\r\n\r\n");
        assert!(!follower.is_idle(), "nobody knows");
        assert_eq!(notes.take(), (Vec::new(), 0));
    }
}

mod two {
    use super::*;
    use crate::proxy::frame::{PREFACE, frame};

    const CALL: &str = "/inference.GRPCInferenceService/ModelInfer";

    /// A header whose fields are to be remembered by whoever unpacks it.
    fn header(fields: &[(&str, &str)]) -> Vec<u8> {
        let text = |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
        fields.iter().flat_map(|(name, value)| [vec![0x40], text(name), text(value)].concat()).collect()
    }

    fn padded(payload: &[u8]) -> Vec<u8> {
        [&[5], payload, &[0; 5]].concat()
    }

    fn call() -> Vec<u8> {
        header(&[(":method", "POST"), (":path", CALL), ("content-type", "application/grpc"), ("te", "trailers")])
    }

    /// Three calls at a time in frames of every kind: one in pieces and padding, one whose header is told by the table and continued, one
    /// that is cancelled; and a request that is no call.
    fn conversation() -> (Vec<u8>, Vec<u8>) {
        let again = [0xc1, 0xc0, 0xbf, 0xbe];
        let asked = [
            PREFACE.to_vec(),
            frame(4, 0, 0, &[0, 4, 0, 16, 0, 0]),
            frame(1, 0x4, 1, &call()),
            frame(0, 0x8, 1, &padded(b"fi")),
            frame(1, 0x20, 3, &[&[0, 0, 0, 0, 9][..], &again[..1]].concat()),
            frame(9, 0, 3, &again[1..3]),
            frame(9, 0x4, 3, &again[3..]),
            frame(0, 0, 3, b""),
            frame(8, 0, 0, &[0, 0, 1, 0]),
            frame(0, 0x1, 3, b"second"),
            frame(0, 0x9, 1, &padded(b"rst")),
            frame(6, 0, 0, &[7; 8]),
            frame(1, 0x5, 5, &again),
            frame(3, 0, 5, &[0, 0, 0, 8]),
            frame(1, 0x5, 7, &[0x82, 0x84]),
        ];
        let begin = header(&[(":status", "200"), ("content-type", "application/grpc")]);
        let end = header(&[("grpc-status", "0")]);
        let promise = [&[0, 0, 0, 2][..], &header(&[(":path", "/pushed")])].concat();
        let answered = [
            frame(4, 0, 0, &[]),
            frame(5, 0x4, 3, &promise),
            frame(1, 0x4, 3, &header(&[(":status", "103")])),
            frame(1, 0x4, 3, &begin),
            frame(0, 0, 3, b"tw"),
            frame(1, 0xc, 1, &padded(&begin)),
            frame(0, 0, 1, b"one"),
            frame(0, 0, 3, b"o"),
            frame(1, 0x5, 1, &end),
            frame(1, 0x5, 7, &[0x88]),
            // The newest that is remembered.
            frame(1, 0x5, 3, &[0xbe]),
            frame(1, 0x5, 5, &[0xbe]),
        ];
        (asked.concat(), answered.concat())
    }

    #[test]
    fn every_call_of_a_connection_is_told_with_its_bodies() {
        let (asked, answered) = conversation();
        let (told, missed) = all(&asked, &answered, asked.len());
        assert_eq!((outcomes(&told), missed), (vec![Outcome::Broken, Outcome::Ok, Outcome::Ok], 0));
        assert_eq!(bodies(&told), [(&b""[..], &b""[..]), (b"first", b"one"), (b"second", b"two")]);
        assert!(told.iter().all(|overheard| announced(overheard).spoken == Spoken::Grpc));
    }

    #[test]
    fn however_it_is_cut_the_same_is_told() {
        cut_anywhere(&conversation());
    }

    #[test]
    fn what_has_ended_leaves_nothing_behind() {
        let (asked, answered) = conversation();
        let (mut follower, _watch, _notes) = listener();
        assert!(follower.is_idle());
        follower.asked(&asked);
        assert!(!follower.is_idle());
        follower.answered(&answered);
        assert!(follower.is_idle());
    }

    #[test]
    fn a_call_that_the_server_refuses_or_forgets_is_told() {
        let asked = [PREFACE, &frame(1, 0x5, 1, &call()), &frame(1, 0x5, 3, &[0xc1, 0xc0, 0xbf, 0xbe])].concat();
        let (told, missed) = follow(&asked, &frame(3, 0, 1, &[0, 0, 0, 7]), 1000);
        let (calls, said) = told.split_at(2);
        assert_eq!((outcomes(calls), missed), (vec![Outcome::Unreachable; 2], 0));
        assert!(matches!(&said[0].0, Note::Unanswered { .. }));
        let refused = header(&[(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "12")]);
        let (told, _) = follow(&asked[..PREFACE.len() + 9 + call().len()], &frame(1, 0x5, 1, &refused), 1000);
        assert_eq!(outcomes(&told), [Outcome::ServerError]);
    }

    #[test]
    fn what_cannot_be_followed_is_said_and_what_was_on_its_way_counted() {
        let begun = [PREFACE, &frame(1, 0x4, 1, &call())].concat();
        for (further, why) in [
            (frame(9, 0, 1, &[]), "out of order"),
            ([frame(1, 0, 3, &[0x82]), frame(0, 0, 3, &[])].concat(), "out of order"),
            ([frame(1, 0, 3, &[0x82]), frame(9, 4, 5, &[])].concat(), "out of order"),
            (frame(0, 0x8, 1, &[]), "out of order"),
            (frame(0, 0x8, 1, &[3, 0, 0]), "out of order"),
            (frame(1, 0xc, 3, &[3, 0, 0]), "out of order"),
            (frame(1, 0x24, 3, &[0, 0]), "out of order"),
            (frame(3, 0, 1, &[0]), "out of order"),
            (frame(1, 0x4, 3, &[0xff, 0xff, 0xff, 0xff]), "unpacked"),
            (frame(1, 0x4, 3, &vec![0; 200_000]), "head of more"),
            ([frame(1, 0, 3, &[0; 20_000]), frame(9, 0, 3, &[0; 20_000])].concat(), "head of more"),
            ((0..2000).flat_map(|call| frame(1, 0x4, 2 * call + 3, &[0x82])).collect(), "open at a time"),
        ] {
            for piece in [1, 1 << 20] {
                let (told, missed) = follow(&[&begun[..], &further].concat(), &[], piece);
                let [(Note::Unread { why: said, .. }, ..)] = told.as_slice() else { panic!("{why}: {told:?}") };
                assert!(said.contains(why), "{why}: {said}");
                assert_eq!(missed, 1, "{why}");
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_becomes_of_a_conversation_nothing_breaks(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            piece in 1_usize..300,
        ) {
            for (mut asked, mut answered) in [conversation(), super::one::conversation()] {
                for (place, byte) in &changes {
                    let length = asked.len() + answered.len();
                    let place = place.index(length);
                    *if place < asked.len() { &mut asked[place] } else { let at = place - asked.len(); &mut answered[at] } = *byte;
                }
                prop_assert_eq!(overhear(&asked, &answered, piece), overhear(&asked, &answered, 1));
            }
        }
    }
}
