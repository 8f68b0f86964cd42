/* stories.c -- the story grammar's interpreter. The grammar itself is data: sentences (stories_sentences.def, stories_plots.def,
 * stories_tales.def) and words (stories_words.def, stories_world.def). A rule is a list of texts; one is chosen and read from left to
 * right:
 *
 *   plain words     written with spaces, capitals, a/an and punctuation put right (`a` before a vowel sound is `an`; `?"` swallows a comma)
 *   [x|y|]          one of x, y, nothing
 *   {rule}          another rule; {rule:A O} with X = A, Y = O inside; {rule:A|text} with {$} = text
 *   {=rule}         the choice made the first time in this story, again (proverbs, reasons, days ...)
 *   {rule=other}    the text of `rule` at the place chosen for `other`: lists in step, "go fishing" / "went fishing"
 *   {A} {O.full}    a slot: people A B C, animal D, things O Q T U, places H P R L (L = here), numbers N K; see the attributes below
 *   {*T}            thing_with_A ... thing_with_D, thing_here or thing_away, by where T is
 *   {!O>B} {!@P}    B now has O; everybody is now at P. {O.at} tells where O is: only who followed the story can
 *   {any_thing}     something else of the world, never the story's own; see write_any
 *   {+B:text}       only if there was no B yet; {+=rule:text} only if there was no {=rule} yet
 *   `text` {~}      a quotation; said, asked or cried, by the mark that ended it
 *   {^} {-}         a capital next; no capital in the next quotation
 *
 * A person is named or called he/she by what was said before: a pronoun only where the last person of that gender is meant. */
#include "stories.h"

#include <string.h>

enum { MALE, FEMALE, GENDERS };
enum { CHILD, ADULT };
enum { SMALL = 1, FRAGILE = 2, PRECIOUS = 4, TOOL = 8, READ = 16, MUSIC = 32, WEAR = 64, TOY = 128, METAL = 256, WOOD = 512, CLOTH = 1024 };
enum { VILLAGE = 1, SEA = 2, FOREST = 4, TOWN = 8, FARM = 16, MOUNTAIN = 32, ANYWHERE = 63 };
enum { SETTINGS = 6 }; /* the bits above, in the order of the rule `setting` */
enum { PLURAL = 1, HOME = 1 };

/* ---- the lists */
typedef struct rule {
    const char *name;
    const char *const *texts;
    uint16_t count;
    bool ranked; /* earlier texts are likelier */
} rule;
#define TEXTS(...) (const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *)
#define RULE(name, ...) {#name, TEXTS(__VA_ARGS__), false},
#define WORDS(name, ...) {#name, TEXTS(__VA_ARGS__), true},
static const rule rules[] = {
#include "stories_plots.def"
#include "stories_scenes.def"
#include "stories_sentences.def"
#include "stories_tales.def"
#include "stories_words.def"
};

typedef struct person_kind {
    const char *name;
    int gender;
} person_kind;
typedef struct role_kind {
    const char *name, *work; /* "baker", "baked bread" */
    int settings;
} role_kind;
typedef struct animal_kind {
    const char *name, *sound, *food; /* "dog", "barked", "bones" */
    int settings;
} animal_kind;
typedef struct thing_kind {
    const char *name, *use; /* "lantern", "see in the dark" */
    int flags, number;
} thing_kind;
typedef struct place_kind {
    const char *name, *preposition, *spot, *other_spot; /* "mill", "in", "behind the flour sacks" */
    int settings, flags;
} place_kind;
typedef struct plot_kind {
    const char *rule;
    int age, thing, other; /* of A, who has a trade if ADULT; what O and Q must be (any of these flags) */
} plot_kind;
#define PERSON(name, gender) {name, gender},
static const person_kind people[] = {
#define PEOPLE
#include "stories_world.def"
#undef PEOPLE
};
#undef PERSON
#define ROLE(name, work, settings) {name, work, settings},
static const role_kind roles[] = {
#define ROLES
#include "stories_world.def"
#undef ROLES
};
#undef ROLE
#define ANIMAL(name, sound, food, settings) {name, sound, food, settings},
static const animal_kind animals[] = {
#define ANIMALS
#include "stories_world.def"
#undef ANIMALS
};
#undef ANIMAL
#define THING(name, use, flags, number) {name, use, flags, number},
static const thing_kind things[] = {
#define THINGS
#include "stories_world.def"
#undef THINGS
};
#undef THING
#define PLACE(name, preposition, spot, other_spot, settings, flags) {name, preposition, spot, other_spot, settings, flags},
static const place_kind places[] = {
#define PLACES
#include "stories_world.def"
#undef PLACES
};
#undef PLACE
#define PLOT(rule, age, thing, other) {#rule, age, thing, other},
static const plot_kind plots[] = {
#define PLOTS
#include "stories_world.def"
#undef PLOTS
};
#undef PLOT

/* ---- the state of one story */
typedef struct being {
    const char *title, *name;
    const role_kind *role;     /* C, and A if ADULT */
    const animal_kind *animal; /* D */
    const char *trait;
    int gender;
    int seen; /* the sentence of the last mention */
} being;

typedef struct item {
    const thing_kind *kind;
    const char *quality, *colour;
    char holder; /* a slot: a being or a place */
    bool seen;
} item;

typedef struct frame {
    char args[3]; /* what X, Y, Z stand for */
    const char *content;
    size_t content_size;
    const struct frame *caller;
} frame;

enum { MOST = 30 };         /* the last number with a name */
enum { INDEX_SIZE = 2048 }; /* a power of two, at least twice the rules */
_Static_assert(sizeof(rules) / sizeof(rules[0]) * 2 <= INDEX_SIZE, "index too small");

typedef struct story {
    gm_text *out;
    uint64_t key, counter;
    /* writing */
    bool space, capital, article, article_capital, quoted, quiet;
    char quote_end; /* the mark before the last closing quote */
    /* the world */
    being beings[4];            /* A B C D */
    item items[4];              /* O Q T U */
    const place_kind *where[3]; /* H P R */
    const char *where_adjective[3];
    char here;         /* H, P or R */
    int count, amount; /* N, K */
    /* what has been said */
    int sentence;
    char last_of[GENDERS];
    int16_t memo[sizeof(rules) / sizeof(rules[0])]; /* the remembered choice + 1 */
    uint8_t recent[sizeof(rules) / sizeof(rules[0])][2];
    uint16_t index[INDEX_SIZE]; /* rule + 1 by name */
} story;

static int below(story *s, int n) {
    return (int)gm_rng_below(s->key, s->counter++, n);
}

/* A softened Zipf law: P(i) is about ln(n/i)/n, so that every list has common and rare words. */
static int ranked(story *s, int n) {
    return below(s, 1 + below(s, n));
}

/* ---- writing: spaces, capitals, articles, marks */
static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static char last_written(const story *s, size_t back) {
    return s->out->size > back ? s->out->data[s->out->size - 1 - back] : '\n';
}

static bool takes_an(const char *word, size_t n) {
    static const char *const no[] = {"one", "once", "useful", "used", "usual", "unit"}, *const yes[] = {"hour", "honest"};
    for (int i = 0; i < GM_COUNT(no); i++)
        if (n >= strlen(no[i]) && !memcmp(word, no[i], strlen(no[i])))
            return false;
    for (int i = 0; i < GM_COUNT(yes); i++)
        if (n >= strlen(yes[i]) && !memcmp(word, yes[i], strlen(yes[i])))
            return true;
    return strchr("aeiouAEIOU", word[0]) != NULL;
}

static void write_word(story *s, const char *word, size_t n) {
    if (n == 1 && (word[0] | 32) == 'a' && !s->article) { /* a or an: the next word decides */
        s->article = true;
        s->article_capital = s->capital || word[0] == 'A';
        s->capital = false;
        return;
    }
    if (s->space && word[0] != '\'')
        gm_text_bytes(s->out, " ", 1);
    if (s->article) {
        const char *article = s->article_capital ? "An " : "an ";
        if (takes_an(word, n))
            gm_text_bytes(s->out, article, 3);
        else {
            gm_text_bytes(s->out, article, 1);
            gm_text_bytes(s->out, " ", 1);
        }
        s->article = false;
    }
    char first = word[0];
    if (s->capital && first >= 'a' && first <= 'z')
        first = (char)(first - 'a' + 'A');
    gm_text_bytes(s->out, &first, 1);
    gm_text_bytes(s->out, word + 1, n - 1);
    s->capital = false;
    s->space = true;
}

static void write_mark(story *s, char mark) {
    char last = last_written(s, 0);
    bool after_quote = last == '"';
    if (after_quote)
        last = last_written(s, 1);
    if (mark == '`') {
        if (s->quoted) {
            s->space = true;
            s->quote_end = last_written(s, 0);
            s->capital = s->quote_end == '.';
        } else {
            if (s->space)
                gm_text_bytes(s->out, " ", 1);
            s->space = false;
            s->capital = !s->quiet;
            s->quiet = false;
        }
        s->quoted = !s->quoted;
        gm_text_bytes(s->out, "\"", 1);
        return;
    }
    if (strchr(",.!?;:", last)) { /* two marks never meet: the stronger one stays */
        if (last == ',' && mark != ',' && !after_quote)
            s->out->data[s->out->size - 1] = mark;
    } else
        gm_text_bytes(s->out, &mark, 1);
    s->space = true;
    if (strchr(".!?", mark)) {
        s->capital = true;
        s->sentence++;
    }
}

/* A wrong name in the grammar is our own error; the tests look for its mark. */
static void write_error(story *s) {
    gm_text_bytes(s->out, "#", 1);
}

static void write_paragraph(story *s) {
    if (last_written(s, 0) != '\n')
        gm_text_bytes(s->out, "\n", 1);
    s->space = s->quoted = s->quiet = false;
    s->capital = true;
    s->sentence += 2; /* nobody is "he" across paragraphs */
}

/* Plain text: words, marks and newlines; spaces mean nothing. */
static void write_plain(story *s, const char *text, size_t n) {
    for (size_t i = 0; i < n;) {
        size_t start = i;
        while (i < n && (is_letter(text[i]) || text[i] == '\''))
            i++;
        if (i > start)
            write_word(s, text + start, i - start);
        else if (text[i] == '\n')
            write_paragraph(s), i++;
        else if (text[i] == ' ')
            i++;
        else
            write_mark(s, text[i++]);
    }
}

static void write_words(story *s, const char *text) {
    write_plain(s, text, strlen(text));
}

/* ---- rules */
static uint32_t name_hash(const char *name, size_t n) {
    uint32_t h = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < n; i++)
        h = (h ^ (uint8_t)name[i]) * 16777619u;
    return h ^ h >> 15;
}

static void index_rules(story *s) {
    for (int i = 0; i < GM_COUNT(rules); i++) {
        uint32_t h = name_hash(rules[i].name, strlen(rules[i].name));
        while (s->index[h & (INDEX_SIZE - 1)])
            h++;
        s->index[h & (INDEX_SIZE - 1)] = (uint16_t)(i + 1);
    }
}

/* -1: no such rule. */
static int find_rule(const story *s, const char *name, size_t n) {
    for (uint32_t h = name_hash(name, n);; h++) {
        int i = s->index[h & (INDEX_SIZE - 1)] - 1;
        if (i < 0 || (!strncmp(rules[i].name, name, n) && !rules[i].name[n]))
            return i;
    }
}

static int choose(story *s, int r) {
    int chosen = 0;
    for (int attempt = 0; attempt < 3; attempt++) { /* twice the same in a row reads badly */
        chosen = rules[r].ranked ? ranked(s, rules[r].count) : below(s, rules[r].count);
        if (chosen + 1 != s->recent[r][0] && chosen + 1 != s->recent[r][1])
            break;
    }
    s->recent[r][1] = s->recent[r][0];
    s->recent[r][0] = (uint8_t)(chosen + 1);
    return chosen;
}

static int remember(story *s, int r) {
    if (!s->memo[r])
        s->memo[r] = (int16_t)(choose(s, r) + 1);
    return s->memo[r] - 1;
}

static const char *pick(story *s, const char *name) {
    int r = find_rule(s, name, strlen(name));
    return rules[r].texts[choose(s, r)];
}

static void expand(story *s, const frame *f, const char *text, size_t n);

static void expand_rule(story *s, const frame *f, const char *name, size_t n) {
    int r = find_rule(s, name, n);
    if (r < 0) {
        write_error(s);
        return;
    }
    const char *text = rules[r].texts[choose(s, r)];
    expand(s, f, text, strlen(text));
}

/* ---- slots */
static bool is_being(char slot) {
    return slot >= 'A' && slot <= 'D';
}

static int item_of(char slot) {
    static const char slots[] = "OQTU";
    const char *at = slot ? strchr(slots, slot) : NULL;
    return at ? (int)(at - slots) : -1;
}

static int place_of(const story *s, char slot) {
    static const char slots[] = "HPR";
    const char *at = slot ? strchr(slots, slot == 'L' ? s->here : slot) : NULL;
    return at ? (int)(at - slots) : -1;
}

static bool attribute_is(const char *attribute, size_t n, const char *name) {
    return strlen(name) == n && !memcmp(attribute, name, n);
}

static void mention(story *s, char slot) {
    being *b = &s->beings[slot - 'A'];
    b->seen = s->sentence;
    s->last_of[b->gender] = slot;
}

static void write_name(story *s, const being *b) {
    if (b->title)
        write_words(s, b->title);
    write_words(s, b->name);
}

/* The word of a pair that goes with the gender: attribute, male, female. */
enum { HE, HIM, HIS, YOUNG };
static const char *const gendered[][3] = {
    [HE] = {"he", "he", "she"},
    [HIM] = {"obj", "him", "her"},
    [HIS] = {"poss", "his", "her"},
    [YOUNG] = {"young", "boy", "girl"},
};

/* {A} who does it; {A.him} to whom; {A.his} whose; .name always the name; the rest as listed. */
static void write_being(story *s, char slot, const char *attribute, size_t n) {
    being *b = &s->beings[slot - 'A'];
    for (int i = 0; i < GM_COUNT(gendered); i++)
        if (attribute_is(attribute, n, gendered[i][0])) {
            write_words(s, gendered[i][1 + b->gender]);
            mention(s, slot);
            return;
        }
    if (attribute_is(attribute, n, "kind"))
        write_words(s, b->animal ? b->animal->name : b->role ? b->role->name : gendered[YOUNG][1 + b->gender]);
    else if (attribute_is(attribute, n, "role"))
        write_words(s, b->role->name);
    else if (attribute_is(attribute, n, "work"))
        write_words(s, b->role->work);
    else if (attribute_is(attribute, n, "sound"))
        write_words(s, b->animal->sound);
    else if (attribute_is(attribute, n, "food"))
        write_words(s, b->animal->food);
    else if (attribute_is(attribute, n, "trait"))
        write_words(s, b->trait);
    else {
        bool same = b->seen == s->sentence, near = s->last_of[b->gender] == slot && s->sentence - b->seen <= 1;
        bool pronoun = near && !attribute_is(attribute, n, "name") && (same || below(s, 4));
        bool whose = attribute_is(attribute, n, "his");
        if (pronoun)
            write_words(s, gendered[whose ? HIS : attribute_is(attribute, n, "him") ? HIM : HE][1 + b->gender]);
        else {
            if (b->role && !whose && !attribute_is(attribute, n, "name") && below(s, 5) == 0) {
                write_words(s, "the");
                write_words(s, b->role->name);
            } else
                write_name(s, b);
            if (whose)
                write_words(s, "'s");
        }
        mention(s, slot);
    }
}

static void write_place(story *s, char slot, const char *attribute, size_t n) {
    const place_kind *p = s->where[place_of(s, slot)];
    if (attribute_is(attribute, n, "spot") || attribute_is(attribute, n, "spot2")) {
        write_words(s, n == 4 ? p->spot : p->other_spot);
        return;
    }
    if (attribute_is(attribute, n, "noun")) {
        write_words(s, p->name);
        return;
    }
    if (attribute_is(attribute, n, "in"))
        write_words(s, p->preposition);
    write_words(s, attribute_is(attribute, n, "a") ? "a" : "the");
    if (attribute_is(attribute, n, "a") || attribute_is(attribute, n, "full"))
        write_words(s, s->where_adjective[place_of(s, slot)]);
    write_words(s, p->name);
}

/* The word of a pair that goes with the number: attribute, one, many. */
static const char *const numbered[][3] = {
    {"it", "it", "them"}, {"they", "it", "they"}, {"was", "was", "were"}, {"is", "is", "are"}, {"this", "this", "these"},
};

static void write_item(story *s, const frame *f, char slot, const char *attribute, size_t n) {
    item *t = &s->items[item_of(slot)];
    bool plural = t->kind->number == PLURAL;
    for (int i = 0; i < GM_COUNT(numbered); i++)
        if (attribute_is(attribute, n, numbered[i][0])) {
            write_words(s, numbered[i][1 + plural]);
            return;
        }
    if (attribute_is(attribute, n, "use"))
        write_words(s, t->kind->use);
    else if (attribute_is(attribute, n, "colour"))
        write_words(s, t->colour);
    else if (attribute_is(attribute, n, "noun"))
        write_words(s, t->kind->name);
    else if (attribute_is(attribute, n, "at")) {
        if (is_being(t->holder)) {
            frame inner = {.args = {t->holder, 0, 0}, .caller = f};
            const char *rule_name = t->holder == 'D' ? "on_animal" : "on_person";
            expand_rule(s, &inner, rule_name, strlen(rule_name));
        } else
            write_place(s, t->holder, "in", 2);
    } else {
        bool full = attribute_is(attribute, n, "full") || attribute_is(attribute, n, "a") || !t->seen;
        write_words(s, !attribute_is(attribute, n, "a") ? "the" : plural ? "some" : "a");
        if (full)
            write_words(s, t->quality);
        if (full || below(s, 4) == 0)
            write_words(s, t->colour);
        write_words(s, t->kind->name);
        t->seen = true;
    }
}

/* {N} how many there are, {N.noun} of what, {N.less} some of them are gone (now K), {N.more} some come (now K). */
static void write_number(story *s, char slot, const char *attribute, size_t n) {
    int value = slot == 'N' ? s->count : s->amount;
    if (attribute_is(attribute, n, "noun")) {
        int r = find_rule(s, "counted", 7), one = find_rule(s, "counted_one", 11);
        write_words(s, rules[value == 1 ? one : r].texts[remember(s, r)]);
        return;
    }
    if (attribute_is(attribute, n, "was")) {
        write_words(s, value == 1 ? "was" : "were");
        return;
    }
    if (attribute_is(attribute, n, "less")) {
        s->amount = 1 + below(s, GM_MAX(1, s->count / 2));
        s->count -= s->amount;
        value = s->amount;
    } else if (attribute_is(attribute, n, "more")) {
        s->amount = 1 + below(s, 5);
        s->amount = GM_MAX(0, GM_MIN(s->amount, MOST - s->count));
        s->count += s->amount;
        value = s->amount;
    }
    int r = find_rule(s, "number", 6);
    write_words(s, rules[r].texts[value]);
}

/* X, Y and Z are what the call gave (a slot itself, never X again). */
static char resolve(const frame *f, char slot) {
    return slot < 'X' || slot > 'Z' ? slot : f ? f->args[slot - 'X'] : 0;
}

static void write_slot(story *s, const frame *f, const char *text, size_t n) {
    char slot = resolve(f, text[0]);
    const char *attribute = text + 2;
    size_t size = n > 2 ? n - 2 : 0;
    if (is_being(slot))
        write_being(s, slot, attribute, size);
    else if (item_of(slot) >= 0)
        write_item(s, f, slot, attribute, size);
    else if (place_of(s, slot) >= 0)
        write_place(s, slot, attribute, size);
    else if (slot == 'N' || slot == 'K')
        write_number(s, slot, attribute, size);
    else
        write_error(s);
}

/* ---- directives */
/* The end of the bracket that opens at text[0]. */
static size_t bracket_size(const char *text, size_t n) {
    int depth = 0;
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '{' || text[i] == '[')
            depth++;
        if ((text[i] == '}' || text[i] == ']') && --depth == 0)
            return i + 1;
    }
    return n;
}

/* The next `|` outside brackets, or n. */
static size_t bar(const char *text, size_t n) {
    size_t i = 0;
    while (i < n && text[i] != '|')
        i += text[i] == '{' || text[i] == '[' ? bracket_size(text + i, n - i) : 1;
    return i;
}

static void expand_alternatives(story *s, const frame *f, const char *text, size_t n) {
    int count = 1;
    for (size_t i = bar(text, n); i < n; i += 1 + bar(text + i + 1, n - i - 1))
        count++;
    size_t start = 0;
    for (int chosen = below(s, count); chosen > 0; chosen--)
        start += bar(text + start, n - start) + 1;
    expand(s, f, text + start, bar(text + start, n - start));
}

/* {any_thing} and the like: something of the world that the story is not about. */
static void write_any(story *s, const char *what, size_t n) {
    bool the = attribute_is(what, n, "the_thing"), one = attribute_is(what, n, "one"), in = attribute_is(what, n, "in_place"), ours;
    if (the || one || attribute_is(what, n, "thing")) {
        const thing_kind *t;
        do {
            t = &things[ranked(s, GM_COUNT(things))];
            ours = one && t->number == PLURAL;
            for (int i = 0; i < GM_COUNT(s->items); i++)
                ours |= s->items[i].kind == t;
        } while (ours);
        write_words(s, the ? "the" : t->number == PLURAL ? "some" : "a");
        if (below(s, 2))
            write_words(s, pick(s, "quality"));
        if (below(s, 3) == 0)
            write_words(s, pick(s, "colour"));
        write_words(s, t->name);
    } else if (in || attribute_is(what, n, "place")) {
        const place_kind *p = &places[ranked(s, GM_COUNT(places))];
        if (in) {
            write_words(s, p->preposition);
            write_words(s, "the");
        }
        write_words(s, p->name);
    } else if (attribute_is(what, n, "role"))
        write_words(s, roles[ranked(s, GM_COUNT(roles))].name);
    else if (attribute_is(what, n, "animal"))
        write_words(s, animals[ranked(s, GM_COUNT(animals))].name);
    else if (attribute_is(what, n, "name")) {
        const char *name;
        do {
            name = people[ranked(s, GM_COUNT(people))].name;
            ours = false;
            for (int i = 0; i < GM_COUNT(s->beings); i++)
                ours |= s->beings[i].name == name;
        } while (ours);
        write_words(s, name);
    } else
        write_error(s);
}

static void expand_call(story *s, const frame *f, const char *text, size_t n) {
    if (n > 4 && !memcmp(text, "any_", 4)) {
        write_any(s, text + 4, n - 4);
        return;
    }
    size_t name = 0;
    while (name < n && text[name] != ':' && text[name] != '=')
        name++;
    if (name < n && text[name] == '=') {
        int memory = find_rule(s, text + name + 1, n - name - 1), r = name ? find_rule(s, text, name) : memory;
        if (memory < 0 || r < 0)
            write_error(s);
        else {
            const char *chosen = rules[r].texts[remember(s, memory) % rules[r].count];
            expand(s, f, chosen, strlen(chosen));
        }
        return;
    }
    if (name == n) {
        expand_rule(s, f, text, n);
        return;
    }
    frame inner = {.caller = f};
    size_t i = name + 1;
    for (int arg = 0; i < n && text[i] != '|'; i++)
        if (text[i] != ' ' && arg < 3)
            inner.args[arg++] = resolve(f, text[i]);
    if (i < n) {
        inner.content = text + i + 1;
        inner.content_size = n - i - 1;
    }
    expand_rule(s, &inner, text, name);
}

static void expand_directive(story *s, const frame *f, const char *text, size_t n) {
    char c = text[0];
    if (c == '^')
        s->capital = true;
    else if (c == '-')
        s->quiet = true;
    else if (c == '!') {
        if (text[1] == '@')
            s->here = resolve(f, text[2]) == 'L' ? s->here : resolve(f, text[2]);
        else {
            char to = resolve(f, text[3]);
            s->items[item_of(resolve(f, text[1]))].holder = to == 'L' ? s->here : to;
        }
    } else if (c == '+') {
        size_t name = 2;
        while (name < n && text[name] != ':')
            name++;
        int memory = text[1] == '=' ? find_rule(s, text + 2, name - 2) : -1;
        if (memory >= 0 ? !s->memo[memory] : s->beings[text[1] - 'A'].seen < 0)
            expand(s, f, text + name + 1, n - name - 1);
    } else if (c == '$') {
        while (f && !f->content)
            f = f->caller;
        if (f)
            expand(s, f->caller, f->content, f->content_size);
    } else if (c == '*') { /* {*T}: the rule for T being with A, B, C, D, here, or elsewhere */
        char slot = resolve(f, text[1]), holder = s->items[item_of(slot)].holder, with[] = "thing_with_A";
        with[11] = holder;
        const char *name = is_being(holder) ? with : holder == s->here ? "thing_here" : "thing_away";
        frame inner = {.args = {slot, 0, 0}, .caller = f};
        expand_rule(s, &inner, name, strlen(name));
    } else if (c == '~') { /* said, asked or cried, by the mark before the quote */
        const char *verb = s->quote_end == '?' ? "asked" : s->quote_end == '!' ? "cried" : "said";
        expand_rule(s, f, verb, strlen(verb));
    } else if (c >= 'A' && c <= 'Z')
        write_slot(s, f, text, n);
    else
        expand_call(s, f, text, n);
}

static void expand(story *s, const frame *f, const char *text, size_t n) {
    for (size_t i = 0; i < n;) {
        if (text[i] == '{' || text[i] == '[') {
            size_t size = bracket_size(text + i, n - i);
            if (text[i] == '{')
                expand_directive(s, f, text + i + 1, size - 2);
            else
                expand_alternatives(s, f, text + i + 1, size - 2);
            i += size;
        } else {
            size_t start = i;
            while (i < n && text[i] != '{' && text[i] != '[')
                i++;
            write_plain(s, text + start, i - start);
        }
    }
}

/* ---- casting: who, what and where, all different */
static void cast_people(story *s, const plot_kind *plot, int setting) {
    for (int i = 0; i < 4; i++) {
        being *b = &s->beings[i];
        bool taken;
        do {
            const person_kind *p = &people[ranked(s, GM_COUNT(people))];
            b->name = p->name;
            b->gender = p->gender;
            taken = false;
            for (int j = 0; j < i; j++)
                taken |= s->beings[j].name == b->name;
        } while (taken);
        b->seen = -1;
        b->trait = pick(s, "trait");
    }
    being *elder = &s->beings[2], *animal = &s->beings[3];
    do
        elder->role = &roles[ranked(s, GM_COUNT(roles))];
    while (!(elder->role->settings & setting));
    if (plot->age == CHILD && below(s, 2))
        elder->title = pick(s, elder->gender ? "title_woman" : "title_man");
    if (plot->age == ADULT)
        do
            s->beings[0].role = &roles[below(s, GM_COUNT(roles))];
        while (!(s->beings[0].role->settings & setting) || s->beings[0].role == elder->role);
    animal->name = pick(s, "pet");
    do
        animal->animal = &animals[ranked(s, GM_COUNT(animals))];
    while (!(animal->animal->settings & setting));
}

static void cast_things(story *s, const plot_kind *plot) {
    const int wanted[4] = {plot->thing, plot->other, SMALL, SMALL};
    for (int i = 0; i < 4; i++) {
        item *t = &s->items[i];
        bool taken;
        do {
            t->kind = &things[ranked(s, GM_COUNT(things))];
            taken = !(t->kind->flags & wanted[i]);
            for (int j = 0; j < i; j++)
                taken |= s->items[j].kind == t->kind;
        } while (taken);
        t->quality = pick(s, "quality");
        int made = t->kind->flags;
        t->colour = pick(s, below(s, 2) ? "colour" : made & METAL ? "metal" : made & WOOD ? "wood" : made & CLOTH ? "cloth" : "colour");
        t->holder = "AAAB"[i];
    }
}

static void cast_places(story *s, int setting) {
    for (int i = 0; i < 3; i++) {
        bool taken;
        do {
            s->where[i] = &places[ranked(s, GM_COUNT(places))];
            taken = !(s->where[i]->settings & setting) || (i == 0) != (s->where[i]->flags == HOME);
            for (int j = 0; j < i; j++)
                taken |= s->where[i] == s->where[j];
        } while (taken);
        s->where_adjective[i] = pick(s, "place_quality");
    }
    s->here = 'H';
}

void gm_story_write(gm_text *out, uint64_t key) {
    story s = {.out = out, .key = key, .capital = true};
    index_rules(&s);
    const plot_kind *plot = &plots[below(&s, GM_COUNT(plots))];
    int setting = below(&s, SETTINGS);
    s.memo[find_rule(&s, "setting", 7)] = (int16_t)(setting + 1);
    s.count = 5 + below(&s, 10);
    cast_people(&s, plot, 1 << setting);
    cast_things(&s, plot);
    cast_places(&s, 1 << setting);
    expand_rule(&s, NULL, plot->rule, strlen(plot->rule));
    write_paragraph(&s);
}

/* ---- the vocabulary: the same lists, read without choosing */
enum { SEEN_SIZE = 8192 }; /* a power of two, above twice the words */
typedef struct word_list {
    gm_text *out;
    uint32_t seen[SEEN_SIZE]; /* where the word stands in out, + 1 */
} word_list;

static void list_word(word_list *list, const char *word, size_t n, const char *ending) {
    char lower[64];
    size_t size = 0;
    for (; size < n && size < sizeof(lower) - 8; size++)
        lower[size] = (char)(is_letter(word[size]) ? word[size] | 32 : word[size]);
    for (; *ending; ending++)
        lower[size++] = *ending;
    uint32_t h = name_hash(lower, size);
    for (; list->seen[h & (SEEN_SIZE - 1)]; h++) {
        const char *there = list->out->data + list->seen[h & (SEEN_SIZE - 1)] - 1;
        if (!strncmp(there, lower, size) && there[size] == '\n')
            return;
    }
    list->seen[h & (SEEN_SIZE - 1)] = (uint32_t)(list->out->size + 1);
    gm_text_bytes(list->out, lower, size);
    gm_text_bytes(list->out, "\n", 1);
}

static void list_text(word_list *list, const char *text, size_t n, const char *ending) {
    for (size_t i = 0; i < n && !list->out->failed;) {
        size_t start = i;
        while (i < n && (is_letter(text[i]) || text[i] == '\''))
            i++;
        if (i > start) {
            if (text[start] != '\'') /* 's after a slot is listed with the names */
                list_word(list, text + start, i - start, ending);
        } else if (text[i] == '{') { /* words stand only in what a directive holds: {say:A|...}, {+B:...} */
            size_t size = bracket_size(text + i, n - i), inside = 1;
            if (text[i + 1] == '+')
                while (inside < size && text[i + inside++] != ':')
                    ;
            else
                inside += bar(text + i + 1, size - 2) + 1;
            if (inside < size)
                list_text(list, text + i + inside, size - inside - 1, ending);
            i += size;
        } else {
            if (text[i] == '`')
                list_word(list, "\"", 1, ending);
            else if (!strchr(" \n[]|", text[i]))
                list_word(list, text + i, 1, ending);
            i++;
        }
    }
}

static void list_words(word_list *list, const char *text) {
    list_text(list, text, strlen(text), "");
}

void gm_story_words(gm_text *out) {
    word_list list = {.out = out};
    list_words(&list, "a an the some");
    for (int i = 0; i < GM_COUNT(gendered); i++) {
        list_words(&list, gendered[i][1]);
        list_words(&list, gendered[i][2]);
    }
    for (int i = 0; i < GM_COUNT(numbered); i++) {
        list_words(&list, numbered[i][1]);
        list_words(&list, numbered[i][2]);
    }
    for (int i = 0; i < GM_COUNT(rules); i++)
        for (int j = 0; j < rules[i].count; j++)
            list_words(&list, rules[i].texts[j]);
    for (int i = 0; i < GM_COUNT(people); i++) {
        list_words(&list, people[i].name);
    }
    for (int i = 0; i < GM_COUNT(roles); i++) {
        list_words(&list, roles[i].name);
        list_words(&list, roles[i].work);
    }
    for (int i = 0; i < GM_COUNT(animals); i++) {
        list_words(&list, animals[i].name);
        list_words(&list, animals[i].sound);
        list_words(&list, animals[i].food);
    }
    for (int i = 0; i < GM_COUNT(things); i++) {
        list_words(&list, things[i].name);
        list_words(&list, things[i].use);
    }
    for (int i = 0; i < GM_COUNT(places); i++) {
        list_words(&list, places[i].name);
        list_words(&list, places[i].preposition);
        list_words(&list, places[i].spot);
        list_words(&list, places[i].other_spot);
    }
}
