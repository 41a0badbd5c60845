use std::fs;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

const TEXT: &str = "the cat sat on the mat.\nthe cat sat.\n\n  the naïve cat\t sat on 12 mats\n";

static PAIRS: LazyLock<Tokenizer> = LazyLock::new(|| Tokenizer::train_bpe(TEXT, 270).unwrap());

fn written(name: &str, bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(name);
    fs::write(&file, bytes).unwrap();
    (dir, file)
}

#[test]
fn characters_bytes_and_pairs_decode_to_the_text_and_reopen_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let pairs = Tokenizer::train_bpe(TEXT, 280).unwrap();
    assert!((257..=280).contains(&pairs.vocabulary()), "{}", pairs.vocabulary());
    for tokenizer in [Tokenizer::bytes(), Tokenizer::characters(TEXT), pairs] {
        let tokens = tokenizer.encode(TEXT).unwrap();
        assert_eq!(tokenizer.decode(&tokens).unwrap(), TEXT);
        assert!(tokens.iter().all(|&t| (t as usize) < tokenizer.vocabulary()));
        let file = dir.path().join("t.json");
        tokenizer.save(&file).unwrap();
        let again = Tokenizer::open(&file).unwrap();
        assert_eq!(again.encode(TEXT).unwrap(), tokens);
        assert_eq!(again.vocabulary(), tokenizer.vocabulary());
    }
}

#[test]
fn words_are_ranked_by_frequency_and_lines_end() {
    let words = Tokenizer::words(TEXT, 6);
    // the 4, cat 3, sat 2 (`sat.` is another word), on 2
    assert_eq!(words.decode(&[0, 1, 2, 3, 4, 5]).unwrap(), "<unk> <eos> the cat on sat");
    assert_eq!(words.encode("the dog sat\n\n").unwrap(), [2, 0, 5, 1, 1]);
    let (_dir, file) = written("w.json", b"");
    words.save(&file).unwrap();
    assert_eq!(Tokenizer::open(&file).unwrap().encode(TEXT).unwrap(), words.encode(TEXT).unwrap());
}

#[test]
fn pairs_are_learned_in_the_order_of_their_counts_and_training_is_repeatable() {
    // `aa` occurs most often, then `aab`: the merges of Gage 1994's example.
    let two = Tokenizer::train_bpe(&"aaab aaab aaac\n".repeat(9), 258).unwrap();
    assert_eq!(two.decode(&[256]).unwrap(), "aa");
    let train = || {
        let Kind::Pairs(pairs) = Tokenizer::train_bpe(TEXT, 300).unwrap().kind else { panic!() };
        pairs.to_json(Path::new("t")).unwrap()
    };
    assert_eq!(train(), train());
    assert!(matches!(Tokenizer::train_bpe(TEXT, 256), Err(Error::Argument { .. })));
}

#[test]
fn gpt_2s_two_files_give_its_tokens() {
    let dir = tempfile::tempdir().unwrap();
    // GPT-2 writes a space as Ġ; ids in the order of the file, merges in the order of their making.
    let vocabulary =
        r#"{"h":0,"e":1,"l":2,"o":3,"Ġ":4,"he":5,"ll":6,"hell":7,"hello":8,"Ġhello":9}"#;
    fs::write(dir.path().join("vocab.json"), vocabulary).unwrap();
    let merges = "#version: 0.2\nh e\nl l\nhe ll\nhell o\nĠ hello\n";
    fs::write(dir.path().join("merges.txt"), merges).unwrap();
    let tokenizer = Tokenizer::open(dir.path()).unwrap();
    assert_eq!(tokenizer.encode("hello hello hell").unwrap(), [8, 9, 4, 7]);
    assert_eq!(tokenizer.decode(&[8, 9, 4, 7]).unwrap(), "hello hello hell");
    let message = |merges: &str| {
        fs::write(dir.path().join("merges.txt"), merges).unwrap();
        Tokenizer::open(dir.path()).unwrap_err().to_string()
    };
    assert!(message("h e\nh x\n").ends_with("tokens of vocab.json in line 2, got `x`"));
    assert!(message("h e\nhe\n").ends_with("two tokens in line 2, got `he`"));
    fs::write(dir.path().join("vocab.json"), r#"{"h":0,"e":7}"#).unwrap();
    assert!(message("#version\n").contains("expected tokens numbered from 0 without gaps"));
    fs::write(dir.path().join("vocab.json"), r#"{"h":-1}"#).unwrap();
    assert!(message("#version\n").contains("`h` without a number"));
}

#[test]
fn a_long_text_in_pieces_has_the_tokens_of_the_whole() {
    let Kind::Pairs(pairs) = Tokenizer::train_bpe(TEXT, 290).unwrap().kind else { panic!() };
    let long = TEXT.repeat(3000);
    assert!(bpe::pieces(&long).count() > 2);
    assert_eq!(bpe::pieces(&long).collect::<String>(), long);
    let whole = pairs.inner.encode_fast(long.as_str(), false).unwrap();
    let whole: Vec<i64> = whole.get_ids().iter().map(|&id| i64::from(id)).collect();
    assert_eq!(pairs.encode(&long).unwrap(), whole);
}

/// A `tokenizer.json` of letters, and of what else it is to have.
fn json(pre_tokenizer: &str, normalizer: &str, model: &str, more: &str) -> Vec<u8> {
    format!(
        r#"{{"version":"1.0","added_tokens":[],"normalizer":{normalizer},"pre_tokenizer":{pre_tokenizer},
        "post_processor":null,"decoder":null,{more}"model":{{"type":"BPE",{model}}}}}"#
    )
    .into_bytes()
}

const LETTERS: &str = r#""unk_token":"?","vocab":{"?":0,"a":1,"b":2,"\u2581":3,"\u0120":4,"\u010a":5,"ab":6,
    "\u2581a":7,"\u0120a":8," ":9,"\n":10},"merges":["a b","\u2581 a","\u0120 a"]"#;

#[test]
fn a_byte_order_mark_in_front_of_a_tokenizers_files_is_no_part_of_them() {
    let json = json("null", "null", LETTERS, "");
    let marked = [&b"\xef\xbb\xbf"[..], &json].concat();
    let [plain, marked] =
        [json, marked].map(|json| Tokenizer::parse(&json, Path::new("t")).unwrap());
    assert_eq!(plain.encode("abab").unwrap(), marked.encode("abab").unwrap());
    let dir = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| fs::write(dir.path().join(file), text).unwrap();
    write("vocab.json", "\u{feff}{\"a\":0,\"b\":1,\"ab\":2}");
    write("merges.txt", "\u{feff}#version: 0.2\r\na b\r\n");
    assert_eq!(Tokenizer::open(dir.path()).unwrap().encode("abb").unwrap(), [2, 1]);
}

#[test]
fn a_part_at_which_the_crate_would_panic_is_refused_when_the_file_is_read() {
    let no_length = r#"{"type":"FixedLength","length":0}"#;
    let table = r#"{"type":"Sequence","normalizers":[{"type":"Precompiled"}]}"#;
    for (pre_tokenizer, normalizer, said) in
        [(no_length, "null", "words of no length"), ("null", table, "a table of characters")]
    {
        let file = json(pre_tokenizer, normalizer, LETTERS, "");
        let error = Tokenizer::parse(&file, Path::new("t")).unwrap_err().to_string();
        assert!(
            error.starts_with("t: expected a tokenizer.json") && error.contains(said),
            "{error}"
        );
    }
    let decoder = |decoder: &str| {
        let file = String::from_utf8(json("null", "null", LETTERS, "")).unwrap();
        let file = file.replace(r#""decoder":null"#, &format!(r#""decoder":{decoder}"#));
        Tokenizer::parse(file.as_bytes(), Path::new("t"))
    };
    let ends = decoder(r#"{"type":"Strip","content":" ","start":0,"stop":1}"#);
    assert!(ends.unwrap_err().to_string().contains("strips the ends"));
    let last = decoder(r#"{"type":"BPEDecoder","suffix":"</w>"}"#).unwrap();
    assert_eq!(last.decode(&[]).unwrap(), "");
}

#[test]
fn settings_for_batches_are_not_applied_to_a_text_and_are_named() {
    let settings = r#""truncation":{"direction":"Right","max_length":4,"strategy":"LongestFirst","stride":0},
        "padding":{"strategy":{"Fixed":64},"direction":"Right","pad_to_multiple_of":null,"pad_id":0,
        "pad_type_id":0,"pad_token":"?"},"#;
    let cut = json("null", "null", LETTERS, settings);
    let whole = json("null", "null", LETTERS, r#""truncation":null,"padding":null,"#);
    let [cut, whole] = [cut, whole].map(|json| Tokenizer::parse(&json, Path::new("t")).unwrap());
    assert_eq!((cut.not_applied(), whole.not_applied()), (&["truncation", "padding"][..], &[][..]));
    assert_eq!(cut.encode("abababba").unwrap(), whole.encode("abababba").unwrap());
    assert_eq!(cut.encode("abababba").unwrap(), [6, 6, 6, 2, 1]);
}

#[test]
fn a_text_has_the_same_tokens_each_time_though_the_file_asks_for_dropout() {
    let file = json("null", "null", &format!(r#""dropout":1.0,{LETTERS}"#), "");
    let tokenizer = Tokenizer::parse(&file, Path::new("t")).unwrap();
    assert_eq!(tokenizer.not_applied(), ["dropout"]);
    assert_eq!(tokenizer.encode("abab").unwrap(), [6, 6]);
}

#[test]
fn a_fallback_to_bytes_that_lacks_some_and_letters_with_an_ending_lose_nothing_in_silence() {
    let bytes =
        r#"{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}"#;
    // é is the bytes C3 A9; ê, of which a byte is missing, is C3 AA.
    let fallback = r#""byte_fallback":true,"vocab":{"a":0,"<0xC3>":1,"<0xA9>":2},"merges":[]"#;
    let tokenizer = Tokenizer::parse(&json("null", "null", fallback, ""), Path::new("t")).unwrap();
    assert_eq!(tokenizer.encode("aé").unwrap(), [0, 1, 2]);
    assert!(tokenizer.encode("aê").unwrap_err().to_string().contains("`aê` at byte `0`"));
    // All letters of bytes, and none that ends a word.
    let letters = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
    let vocab: serde_json::Map<_, _> =
        letters.iter().zip(0..).map(|(c, i)| (c.to_string(), i.into())).collect();
    let vocab = serde_json::Value::Object(vocab);
    let ending = format!(r#""end_of_word_suffix":"/","vocab":{vocab},"merges":[]"#);
    let tokenizer = Tokenizer::parse(&json(bytes, "null", &ending, ""), Path::new("t")).unwrap();
    assert!(tokenizer.encode("ab").unwrap_err().to_string().contains("`ab` at byte `0`"));
}

#[test]
fn a_prefix_comes_once_for_a_text_and_not_once_for_each_piece() {
    let space =
        r#"{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true}"#;
    let metaspace =
        r#"{"type":"Metaspace","replacement":"\u2581","prepend_scheme":"first","split":true}"#;
    let prepend = r#"{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"\u2581"},
        {"type":"Replace","pattern":{"String":" "},"content":"\u2581"}]}"#;
    let text = "ab a b\n".repeat(30_000);
    for (pre_tokenizer, normalizer) in [(space, "null"), (metaspace, "null"), ("null", prepend)] {
        let json = json(pre_tokenizer, normalizer, LETTERS, "");
        let tokenizer = Tokenizer::parse(&json, Path::new("t")).unwrap();
        let Kind::Pairs(pairs) = &tokenizer.kind else { panic!() };
        let whole = pairs.inner.encode(text.as_str(), false).unwrap();
        let whole: Vec<i64> = whole.get_ids().iter().map(|&id| i64::from(id)).collect();
        assert!(tokenizer.encode(&text).unwrap() == whole, "{pre_tokenizer} {normalizer}");
    }
}

#[test]
fn text_that_would_be_lost_is_an_error_that_names_the_place() {
    let letters = r#""vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]"#;
    let bytes =
        r#"{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}"#;
    for (pre_tokenizer, lost) in [
        (r#"{"type":"Whitespace"}"#, "unknown text `az` at byte `3`; known: 3 tokens"),
        ("null", "unknown text `ab az` at byte `0`; known: 3 tokens"),
        (bytes, "unknown text ` az` at byte `2`; known: 3 tokens"),
    ] {
        let json = json(pre_tokenizer, "null", letters, "");
        let tokenizer = Tokenizer::parse(&json, Path::new("t")).unwrap();
        assert_eq!(tokenizer.encode("ab az").unwrap_err().to_string(), lost);
        assert_eq!(tokenizer.encode("abba").unwrap(), [2, 1, 0]);
    }
}

#[test]
fn gpt_2s_special_and_added_tokens_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| fs::write(dir.path().join(file), text).unwrap();
    write("vocab.json", r#"{"a":0,"b":1,"<":2,"|":3,"e":4,">":5,"<|e|>":6}"#);
    write("merges.txt", "#version: 0.2\n");
    let open = || Tokenizer::open(dir.path());
    assert_eq!(open().unwrap().encode("a<|e|>b").unwrap(), [0, 6, 1]);
    write("added_tokens.json", r#"{"<pad>":8,"<img>":7}"#);
    let tokenizer = open().unwrap();
    assert_eq!(tokenizer.vocabulary(), 9);
    assert_eq!(tokenizer.encode("a<img>b<pad><|e|>").unwrap(), [0, 7, 1, 8, 6]);
    let saved = dir.path().join("tokenizer.json");
    tokenizer.save(&saved).unwrap();
    assert_eq!(Tokenizer::open(&saved).unwrap().encode("a<img>b").unwrap(), [0, 7, 1]);
    fs::remove_file(&saved).unwrap();
    write("added_tokens.json", r#"{"<img>":9}"#);
    let message = open().unwrap_err().to_string();
    assert!(message.ends_with("`<img>` under the next free number, Some(7), got 9"), "{message}");
}

/// The tokens that the letters of bytes can become, by merging whatever can be merged.
fn from_letters<'a>(letters: &[&'a str], merges: &[(&'a str, &'a str)]) -> Vec<String> {
    let mut reached: Vec<String> = letters.iter().map(|&letter| letter.to_owned()).collect();
    loop {
        let is = |token: &str| reached.iter().any(|known| known == token);
        let new = merges.iter().find(|(a, b)| is(a) && is(b) && !is(&format!("{a}{b}")));
        let Some((a, b)) = new else { return reached };
        reached.push(format!("{a}{b}"));
    }
}

#[test]
fn exactly_the_tokens_that_no_text_becomes_are_special_in_gpt_2s_two_files() {
    let letters = ["a", "b", "s", "<", ">", "/", "\u{120}", "k"];
    let merges = [("a", "b"), ("\u{120}", "ab"), ("<", "s"), ("ab", "s")];
    // RoBERTa's, GPT-2's, and what looks like either and is made of text.
    let others = ["<s>", "</s>", "<mask>", "<|endoftext|>", "kab", "漢"];
    let made = ["ab", "\u{120}ab", "<s", "abs"];
    let all: Vec<&str> = letters.iter().chain(&made).chain(&others).copied().collect();
    let vocabulary: serde_json::Map<_, _> =
        all.iter().zip(0..).map(|(token, id)| ((*token).to_owned(), id.into())).collect();
    let dir = tempfile::tempdir().unwrap();
    let text = serde_json::Value::Object(vocabulary).to_string();
    fs::write(dir.path().join("vocab.json"), text).unwrap();
    let lines: String = merges.iter().map(|(a, b)| format!("{a} {b}\n")).collect();
    fs::write(dir.path().join("merges.txt"), format!("#version: 0.2\n{lines}")).unwrap();
    let tokenizer = Tokenizer::open(dir.path()).unwrap();
    let reached = from_letters(&letters, &merges);
    let by_definition =
        all.iter().zip(0_u32..).filter(|(token, _)| !reached.iter().any(|r| r == *token));
    let by_definition: Vec<u32> = by_definition.map(|(_, id)| id).collect();
    let Kind::Pairs(pairs) = &tokenizer.kind else { panic!() };
    let mut special: Vec<u32> = pairs.inner.get_added_tokens_decoder().into_keys().collect();
    special.sort_unstable();
    assert_eq!((special.as_slice(), special.len()), (by_definition.as_slice(), others.len()));
    assert_eq!(tokenizer.encode("ab<s>ab</s>").unwrap(), [8, 12, 8, 13]);
}

#[test]
#[cfg(unix)]
fn a_saved_file_has_the_users_mode_and_a_link_stays_a_link() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let dir = tempfile::tempdir().unwrap();
    let (file, link) = (dir.path().join("t.json"), dir.path().join("link.json"));
    let plain = dir.path().join("plain");
    fs::write(&plain, "").unwrap();
    let mode = |file: &Path| fs::metadata(file).unwrap().permissions().mode();
    Tokenizer::bytes().save(&file).unwrap();
    assert_eq!(mode(&file), mode(&plain));
    symlink("t.json", &link).unwrap();
    Tokenizer::characters("ab").save(&link).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(Tokenizer::open(&file).unwrap().vocabulary(), 2);
    // An old file's mode stays, and so does a link to nothing yet.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    Tokenizer::bytes().save(&file).unwrap();
    assert_eq!(mode(&file) & 0o777, 0o640);
    fs::remove_file(&file).unwrap();
    Tokenizer::bytes().save(&link).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink() && file.is_file());
}

#[test]
fn what_is_no_token_or_no_tokenizer_is_named() {
    let characters = Tokenizer::characters("ab");
    let message = characters.encode("abz").unwrap_err().to_string();
    assert_eq!(message, "unknown character `z`; known: 2 characters");
    assert!(matches!(characters.decode(&[0, 2]), Err(Error::Index { index: 2, at: 1, .. })));
    assert!(matches!(characters.decode(&[-1]), Err(Error::Index { index: -1, .. })));
    let said = |bytes: &[u8]| Tokenizer::parse(bytes, Path::new("t")).unwrap_err().to_string();
    assert!(said(b"").starts_with("t: expected a tokenizer in JSON"));
    assert!(said(b"{}").starts_with("t: expected a tokenizer.json"));
    assert!(said(br#"{"alcyon":"runes"}"#).contains("expected bytes, characters or words"));
    assert!(said(br#"{"alcyon":"words","tokens":["a"]}"#).contains("begin with <unk> and <eos>"));
    assert!(said(br#"{"alcyon":"characters","tokens":["a","a"]}"#).contains("different texts"));
    let longer = br#"{"model":{"type":"BPE","vocab":{"a":0,"b":1},"merges":[["a","b"]]}}"#;
    assert!(said(longer).contains("whose tokens are not all in `vocab`"), "{}", said(longer));
    assert!(
        said(br#"{"model":{"type":"Unigram","vocab":{},"merges":[]}}"#).contains("another type")
    );
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Tokenizer::open(dir.path()), Err(Error::File { .. })));
}

proptest! {
    #[test]
    fn any_text_survives_bytes_characters_and_pairs(text in "\\PC{0,40}[ \n]{0,3}\\PC{0,20}") {
        let pairs = PAIRS.clone();
        for tokenizer in [Tokenizer::bytes(), Tokenizer::characters(&text), pairs] {
            let tokens = tokenizer.encode(&text).unwrap();
            prop_assert_eq!(tokenizer.decode(&tokens).unwrap(), text.as_str());
        }
    }
}
