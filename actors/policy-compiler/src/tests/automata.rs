//! The automaton alone: against regex-automata on random globs, and against the blob's promises on its shape.

use palisade_differential::corpus::{Random, glob as random_glob, path, seed};
use regex_automata::{
    Anchored, Input,
    nfa::thompson::{self, pikevm::PikeVM},
    util::syntax,
};

use crate::automaton::{
    AutomatonLimits, ByteSet, Dfa, GlobError, TagStrength, Token, Trie, determinise, glob, minimise,
};

/// Each sequence list with a tag of its own; accept classes are the accept sets.
fn build(patterns: &[Vec<Vec<Token>>], strengths: Vec<TagStrength>) -> (Dfa, Vec<Vec<u32>>) {
    let limits = AutomatonLimits::default();
    let mut trie = Trie::new(strengths, &limits);
    for (sequences, tag) in patterns.iter().zip(0..) {
        sequences.iter().for_each(|tokens| trie.insert(tokens, tag).unwrap());
    }
    let raw = determinise(trie, &limits, &mut || false).unwrap();
    let classes: Vec<u32> = (0..raw.accept_sets.len() as u32).collect();
    let sets = raw.accept_sets.iter().map(<[u32]>::to_vec).collect();
    (minimise(raw.clone(), &classes, &mut || false).unwrap(), sets)
}

/// The same tokens as a regular expression over bytes.
fn regex(sequences: &[Vec<Token>]) -> String {
    let byte = |byte: u8| format!("\\x{byte:02x}");
    let one = |token: &Token| match token {
        Token::Byte(b) => byte(*b),
        Token::Set(set) => format!("[{}]", set.iter().map(byte).collect::<String>()),
        Token::Star => "[^/]*".to_owned(),
        Token::DoubleStar => ".*".to_owned(),
        Token::Components => "/(?:.*/)?".to_owned(),
    };
    let sequences: Vec<String> = sequences.iter().map(|tokens| tokens.iter().map(one).collect()).collect();
    format!("(?:{})$", sequences.join("|"))
}

fn oracle(expression: &str) -> PikeVM {
    PikeVM::builder()
        .syntax(syntax::Config::new().unicode(false).utf8(false).dot_matches_new_line(true))
        .thompson(thompson::Config::new().utf8(false))
        .build(expression)
        .unwrap()
}

fn random_bytes(random: &mut Random) -> Vec<u8> {
    let mut bytes = path(random).into_bytes();
    if random.one_in(4) {
        let at = random.below(bytes.len());
        bytes[at] = random.pick(&[b'/', b'*', b']', 0xc3, 0xff, b'\n', 1]);
    }
    bytes
}

#[test]
fn unit_automaton_accepts_what_regex_automata_accepts() {
    let mut random = Random::new(seed());
    let (mut accepted, mut several) = (0, 0);
    for _ in 0..300 {
        let globs: Vec<String> = (0..1 + random.below(6)).map(|_| random_glob(&mut random)).collect();
        let patterns: Vec<_> = globs.iter().map(|text| glob(text).unwrap()).collect();
        let oracles: Vec<PikeVM> = patterns.iter().map(|sequences| oracle(&regex(sequences))).collect();
        // Equal strengths: nothing dominates, so nothing may be absorbed but a tag by itself.
        let (dfa, sets) = build(&patterns, vec![TagStrength::default(); patterns.len()]);
        for _ in 0..60 {
            let bytes = random_bytes(&mut random);
            let matches = |oracle: &PikeVM| {
                oracle.is_match(&mut oracle.create_cache(), Input::new(&bytes).anchored(Anchored::Yes))
            };
            let expected: Vec<u32> =
                oracles.iter().zip(0..).filter(|(oracle, _)| matches(oracle)).map(|(_, tag)| tag).collect();
            let found = &sets[dfa.accept_of(&bytes) as usize];
            assert_eq!(*found, expected, "{} with {globs:?}", String::from_utf8_lossy(&bytes));
            accepted += usize::from(!expected.is_empty());
            several += usize::from(expected.len() > 1);
        }
    }
    println!("{accepted} accepted, {several} by several");
    assert!(accepted > 1000 && several > 200);
}

#[test]
fn unit_automaton_absorbs_only_what_is_weaker_in_every_table() {
    let strength = |demands, offers| TagStrength { demands, offers };
    let patterns = [glob("/a/**").unwrap(), glob("/**/b").unwrap(), glob("/**/c").unwrap()];
    let strengths =
        vec![strength([2, 2, 0], [2, 2, 0]), strength([1, 1, 0], [1, 1, 0]), strength([1, 3, 0], [0, 3, 0])];
    let (dfa, sets) = build(&patterns, strengths);
    let found = |path: &str| sets[dfa.accept_of(path.as_bytes()) as usize].clone();
    assert_eq!(found("/x/b"), [1]);
    assert_eq!(found("/a/b"), [0], "weaker in both tables: gone");
    assert_eq!(found("/a/c"), [0, 2], "stronger in the second table: kept");
}

#[test]
fn unit_automaton_knows_what_a_loop_can_still_reach_through_a_shared_leaf() {
    // The end of `/**/b` is that of `/z`, which stands before it in the trie.
    let patterns = [glob("{/z,/**/b}").unwrap(), glob("/a/**").unwrap()];
    let strength = |rank| TagStrength { demands: [rank, 0, 0], offers: [rank, 0, 0] };
    let (dfa, sets) = build(&patterns, vec![strength(2), strength(1)]);
    assert_eq!(sets[dfa.accept_of(b"/a/c/b") as usize], [0, 1]);
}

#[test]
fn unit_automaton_is_minimal_dead_first_and_absorbing_next() {
    let limits = AutomatonLimits::default();
    let mut trie = Trie::new(vec![TagStrength::default(); 2], &limits);
    for (text, tag) in [("/ab", 0), ("/cb", 0), ("/a/**", 1)] {
        glob(text).unwrap().iter().for_each(|tokens| trie.insert(tokens, tag).unwrap());
    }
    let raw = determinise(trie, &limits, &mut || false).unwrap();
    let dfa = minimise(raw.clone(), &[0, 1, 2], &mut || false).unwrap();
    // Dead, inside /a/, start, /, /a, /c, and one end for both names.
    assert_eq!((dfa.states(), dfa.absorbing), (7, 2));
    assert_eq!((dfa.accept[0], dfa.accept_of(b"/zz")), (0, 0));
    let row = |state: usize| &dfa.rows[state * dfa.classes..(state + 1) * dfa.classes];
    assert!(row(0).iter().all(|target| *target == 0) && row(1).iter().all(|target| *target == 1));
    // `/`, `a`, `b`, `c`, and all others.
    assert_eq!(dfa.classes, 5);
}

#[test]
fn unit_glob_reads_its_language() {
    use Token::{Byte, Components, DoubleStar, Star};
    let one = |text| glob(text).map(|mut ways| (ways.len() == 1).then(|| ways.remove(0)));
    assert_eq!(one("/a"), Ok(Some(vec![Byte(b'/'), Byte(b'a')])));
    assert_eq!(one("/**/a"), Ok(Some(vec![Components, Byte(b'a')])));
    assert_eq!(one("/**/**/a"), one("/**/a"));
    assert_eq!(one("/***"), Ok(Some(vec![Byte(b'/'), DoubleStar])));
    assert_eq!(one("\\*[*]"), Ok(Some(vec![Byte(b'*'), Byte(b'*')])));
    assert_eq!(one("*a"), Ok(Some(vec![Star, Byte(b'a')])));
    assert_eq!(one("[!a]").unwrap().unwrap(), [Token::Set(ByteSet::component().without(b'a'))]);
    assert_eq!(
        one("[]-]").unwrap().unwrap(),
        [Token::Set(ByteSet::range(b']', b']').union(ByteSet::range(b'-', b'-')))]
    );
    assert_eq!(glob("{a,b{c,d}}").unwrap().len(), 3);
    assert_eq!(glob("/{**,x}/y").unwrap()[0], glob("/**/y").unwrap()[0]);
    assert_eq!(one("a,b}"), Ok(Some(b"a,b}".map(Byte).to_vec())), "outside of alternatives these are themselves");
}

#[test]
fn unit_glob_refuses_what_is_none() {
    for (text, error) in [
        ("/a[b", GlobError::UnclosedClass(2)),
        ("/[", GlobError::UnclosedClass(1)),
        ("/[]", GlobError::UnclosedClass(1)),
        ("/[\\", GlobError::UnclosedClass(1)),
        ("/[z-a]", GlobError::EmptyClass(1)),
        ("/[/]", GlobError::EmptyClass(1)),
        ("/[é]", GlobError::WideClass(1)),
        ("/{a,b", GlobError::UnclosedAlternative(1)),
        ("/a\\", GlobError::DanglingEscape),
        ("/a\0", GlobError::Nul(2)),
        ("/\\\0", GlobError::Nul(2)),
    ] {
        assert_eq!(glob(text), Err(error), "{text:?}");
    }
    assert_eq!(glob(&"a".repeat(4097)), Err(GlobError::TooLong(4097)));
    assert_eq!(glob(&"{".repeat(17)), Err(GlobError::TooDeep(16)));
    assert_eq!(glob(&"{a,b}".repeat(11)), Err(GlobError::TooManyAlternatives(2048)));
    let long = |tail: usize| format!("/{}{}", "{a,b}".repeat(10), "x".repeat(tail));
    assert_eq!(glob(&long(245)).map(|ways| ways.len()), Ok(1024));
    assert_eq!(glob(&long(246)), Err(GlobError::TooLongAlternatives(1024 * 257)));
    // The count saturates instead of being worked out.
    assert_eq!(glob(&"{a,b}".repeat(400)), Err(GlobError::TooManyAlternatives(usize::MAX)));
}
