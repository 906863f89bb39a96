//! All paths that a plan reads, as one trie: which keys lead to a value that somebody wants. Knows nothing of kinds.
//!
//! Each distinct path is a *slot*. Slots are numbered in depth-first order, so that those under a node are a range.

use crate::pointer;

/// No slot, no node.
pub(crate) const NONE: u32 = u32::MAX;
/// The whole event.
pub(crate) const ROOT: usize = 0;

#[derive(Debug)]
pub(crate) struct Trie {
    pub(crate) nodes: Vec<Node>,
    pub(crate) slots: usize,
}

#[derive(Debug)]
pub(crate) struct Node {
    /// Where the value at this node is put; [`NONE`] when nobody wants the value itself.
    pub(crate) slot: u32,
    /// The slots of this node and of all under it.
    pub(crate) under: std::ops::Range<usize>,
    /// Shortest key first, then by bytes.
    children: Vec<Child>,
}

#[derive(Debug)]
struct Child {
    key: Box<[u8]>,
    /// What the key is in an array.
    index: Option<u32>,
    node: u32,
}

impl Node {
    /// Whether anything inside of the value is wanted.
    #[inline(always)]
    pub(crate) fn is_inner(&self) -> bool {
        !self.children.is_empty()
    }

    /// The node under this one by an object's (unescaped) key.
    pub(crate) fn by_key(&self, key: &[u8]) -> u32 {
        let found = self.children.binary_search_by(|child| (child.key.len(), &*child.key).cmp(&(key.len(), key)));
        found.map_or(NONE, |position| self.children[position].node)
    }

    /// The node under this one by an array's index.
    pub(crate) fn by_index(&self, index: u32) -> u32 {
        self.children.iter().find(|child| child.index == Some(index)).map_or(NONE, |child| child.node)
    }
}

/// Collects paths; the slots are known once all are in.
#[derive(Debug)]
pub(crate) struct TrieBuilder {
    trie: Trie,
    wanted: Vec<bool>,
}

impl TrieBuilder {
    pub(crate) fn new() -> Self {
        let mut builder = Self { trie: Trie { nodes: Vec::new(), slots: 0 }, wanted: Vec::new() };
        builder.new_node();
        builder
    }

    /// The node of a path, which somebody wants.
    pub(crate) fn want(&mut self, path: &str) -> Result<usize, String> {
        let mut node = ROOT;
        for token in pointer::parse(path)? {
            node = self.child(node, &token);
        }
        self.wanted[node] = true;
        Ok(node)
    }

    /// The finished trie; nodes are as [`TrieBuilder::want`] gave them.
    pub(crate) fn finish(mut self) -> Trie {
        self.number(ROOT);
        self.trie
    }

    fn new_node(&mut self) -> usize {
        self.trie.nodes.push(Node { slot: NONE, under: 0..0, children: Vec::new() });
        self.wanted.push(false);
        self.trie.nodes.len() - 1
    }

    fn child(&mut self, node: usize, token: &str) -> usize {
        let found = self.trie.nodes[node].by_key(token.as_bytes());
        if found != NONE {
            return found as usize;
        }
        let new = self.new_node();
        let children = &mut self.trie.nodes[node].children;
        children.push(Child { key: token.as_bytes().into(), index: pointer::array_index(token), node: new as u32 });
        children.sort_by(|a, b| (a.key.len(), &*a.key).cmp(&(b.key.len(), &*b.key)));
        new
    }

    /// Pointers are at most [`pointer::MAX_TOKENS`] deep, and so is this recursion.
    fn number(&mut self, node: usize) {
        let first = self.trie.slots;
        if self.wanted[node] {
            self.trie.nodes[node].slot = first as u32;
            self.trie.slots += 1;
        }
        let below: Vec<u32> = self.trie.nodes[node].children.iter().map(|child| child.node).collect();
        for child in below {
            self.number(child as usize);
        }
        self.trie.nodes[node].under = first..self.trie.slots;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_numbered_depth_first() {
        let mut builder = TrieBuilder::new();
        let nodes = ["/b", "/a/x", "", "/a/0", "/b", "/c"].map(|path| builder.want(path).unwrap());
        let trie = builder.finish();
        assert_eq!(trie.slots, 5);
        assert_eq!(nodes[0], nodes[4]);
        assert_eq!(trie.nodes[ROOT].under, 0..5);
        assert_eq!(trie.nodes[ROOT].slot, 0);
        let a = &trie.nodes[trie.nodes[ROOT].by_key(b"a") as usize];
        assert_eq!((a.slot, a.under.clone(), a.is_inner()), (NONE, 1..3, true));
        assert_eq!(a.by_index(0) as usize, nodes[3]);
        assert_eq!(a.by_index(1), NONE);
        assert_eq!(a.by_key(b"x") as usize, nodes[1]);
        assert_eq!(trie.nodes[ROOT].by_key(b"d"), NONE);
    }
}
