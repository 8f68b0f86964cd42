/* trie.c -- many strings as a tree of bytes. The edges of all nodes lie in one hash table, so that a node costs 12 bytes whatever its
 * fan-out, and building takes one step per byte. */
#include "subwords.h"

#include <stdlib.h>
#include <string.h>

typedef struct gm_trie_edge {
    uint32_t node, child; /* child 0: empty (nothing leads back to the root) */
    uint8_t byte;
} gm_trie_edge;

static uint32_t slot_of(uint32_t node, uint8_t byte) {
    uint64_t h = ((uint64_t)node << 8 | byte) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(h >> 32);
}

static gm_trie_edge *edge_of(const gm_trie *t, uint32_t node, uint8_t byte) {
    for (uint32_t i = slot_of(node, byte);; i++) {
        gm_trie_edge *e = &t->edges[i & t->edge_mask];
        if (e->child == 0 || (e->node == node && e->byte == byte))
            return e;
    }
}

static bool grow_edges(gm_trie *t) {
    gm_trie old = *t;
    uint32_t count = old.edges ? 2 * (old.edge_mask + 1) : 64;
    gm_trie_edge *edges = count ? calloc(count, sizeof *edges) : NULL;
    if (!edges)
        return false;
    t->edges = edges;
    t->edge_mask = count - 1;
    for (uint32_t i = 0; old.edges && i <= old.edge_mask; i++) {
        if (old.edges[i].child)
            *edge_of(t, old.edges[i].node, old.edges[i].byte) = old.edges[i];
    }
    free(old.edges);
    return true;
}

static bool grow_nodes(gm_trie *t) {
    uint32_t capacity = t->capacity ? 2 * t->capacity : 64;
    int32_t *values = capacity ? realloc(t->values, capacity * sizeof *values) : NULL;
    if (!values)
        return false;
    t->values = values;
    t->capacity = capacity;
    return true;
}

static uint32_t new_node(gm_trie *t) {
    if (t->nodes == t->capacity && !grow_nodes(t)) {
        t->failed = true;
        return 0;
    }
    t->values[t->nodes] = -1;
    return t->nodes++;
}

void gm_trie_add(gm_trie *t, const char *key, size_t size, int32_t value) {
    if (t->failed || size == 0)
        return;
    if (t->nodes == 0)
        new_node(t); /* the root */
    if (t->failed)
        return;
    uint32_t node = 0;
    for (size_t i = 0; i < size && !t->failed; i++) {
        if ((!t->edges || t->edge_count >= t->edge_mask / 2) && !grow_edges(t)) {
            t->failed = true;
            return;
        }
        gm_trie_edge *e = edge_of(t, node, (uint8_t)key[i]);
        if (e->child == 0) {
            uint32_t child = new_node(t);
            if (t->failed)
                return;
            *e = (gm_trie_edge){node, child, (uint8_t)key[i]};
            t->edge_count++;
        }
        node = e->child;
    }
    t->values[node] = value;
    t->any[(uint8_t)key[0]] = 1;
}

uint32_t gm_trie_step(const gm_trie *t, uint32_t node, uint8_t byte) {
    return t->edges ? edge_of(t, node, byte)->child : 0;
}

int32_t gm_trie_longest(const gm_trie *t, const char *text, size_t size, size_t *length) {
    int32_t found = -1;
    *length = 0;
    if (size == 0 || !t->any[(uint8_t)text[0]])
        return -1;
    uint32_t node = 0;
    for (size_t i = 0; i < size; i++) {
        node = gm_trie_step(t, node, (uint8_t)text[i]);
        if (node == 0)
            break;
        if (t->values[node] >= 0) {
            found = t->values[node];
            *length = i + 1;
        }
    }
    return found;
}

void gm_trie_free(gm_trie *t) {
    free(t->edges);
    free(t->values);
    *t = (gm_trie){0};
}
