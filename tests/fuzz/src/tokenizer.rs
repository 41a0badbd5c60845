//! Tokenizers: `tokenizer.json` and our own, and GPT-2's two files.

use std::path::Path;

use alcyon::nn::data::Tokenizer;

use super::scratch::{Scratch, parts};
use super::{accepted, read_again};

thread_local!(static SCRATCH: Scratch = Scratch::new());

/// Letters, words, lines, what is special to some vocabularies, and characters of two, three and four bytes.
const TEXTS: [&str; 3] =
    ["ab a\n", "", "a<|endoftext|>b [UNK] hello  \u{e9}\u{2581}\u{1f600}\n\nab"];

/// Tokens are below the vocabulary's size, decode, and are the same when the tokenizer is saved and opened again.
pub fn tokenizer(bytes: &[u8]) -> bool {
    SCRATCH.with(|scratch| {
        let file = scratch.write("tokenizer.json", bytes);
        check(&file, &scratch.path().join("again.json"))
    })
}

/// As [`tokenizer`], of `vocab.json`, `merges.txt` and, if there is a third part, `added_tokens.json`.
pub fn gpt2(bytes: &[u8]) -> bool {
    let [vocabulary, merges, added] = parts(bytes);
    SCRATCH.with(|scratch| {
        let folder = scratch.path().join("gpt2");
        scratch.write("gpt2/vocab.json", vocabulary);
        scratch.write("gpt2/merges.txt", merges);
        let added = if added.is_empty() { b"{}" } else { added };
        scratch.write("gpt2/added_tokens.json", added);
        check(&folder, &scratch.path().join("again.json"))
    })
}

fn check(file: &Path, again: &Path) -> bool {
    let Some(tokenizer) = accepted(Tokenizer::open(file), file) else { return false };
    read_again(tokenizer.save(again));
    let again = read_again(Tokenizer::open(again));
    assert_eq!(again.vocabulary(), tokenizer.vocabulary());
    for text in TEXTS {
        let tokens = tokenizer.encode(text);
        match (&tokens, again.encode(text)) {
            (Ok(a), Ok(b)) => assert_eq!(*a, b),
            (Err(a), Err(b)) => assert_eq!(a.to_string(), b.to_string()),
            (a, b) => panic!("{a:?} became {b:?}"),
        }
        if let Ok(tokens) = tokens {
            let known = |token: &i64| (0..tokenizer.vocabulary() as i64).contains(token);
            assert!(tokens.iter().all(known), "{tokens:?} of {}", tokenizer.vocabulary());
            read_again(tokenizer.decode(&tokens));
        }
    }
    assert_eq!(read_again(tokenizer.decode(&[])), "");
    let all: Vec<i64> = (0..tokenizer.vocabulary().min(1000) as i64).collect();
    read_again(tokenizer.decode(&all));
    true
}
