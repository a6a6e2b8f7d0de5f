//! Reading what is there: tables, chains, elements.

use crate::netlink::{Attributes, NetlinkError, ParseError};

use super::{
    CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, CHAIN_TABLE, ELEMENTS_LIST, ELEMENTS_SET, ELEMENTS_TABLE,
    FAMILY_IPV4, HOOK_NUMBER, NftSocket, TABLE_NAME,
};

const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const ALL_FAMILIES: u8 = 0;

/// A chain of any table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The address family: 1 for IPv4 and IPv6 together, 2 for IPv4.
    pub family: u8,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// The number of its hook, if it is a base chain.
    pub hook: Option<u32>,
    /// Whether what passes all its rules is dropped.
    pub drops_by_policy: bool,
}

/// An element of a set or map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedElement {
    /// Its key, each field padded to four bytes.
    pub key: Vec<u8>,
    /// Its value, if it has one that is no verdict.
    pub value: Vec<u8>,
}

/// How often a set is listed at most until nothing new is told: packets may add elements all the time.
const LISTINGS: usize = 8;

impl NftSocket {
    /// The names of the tables in the IPv4 family.
    pub fn tables(&mut self) -> Result<Vec<String>, NetlinkError> {
        self.dump(
            libc::NFT_MSG_GETTABLE,
            FAMILY_IPV4,
            |_| {},
            |_, attributes, found| {
                found.extend(text(&attributes, TABLE_NAME)?);
                Ok(())
            },
        )
    }

    /// The chains of all tables of all families.
    pub fn chains(&mut self) -> Result<Vec<Chain>, NetlinkError> {
        self.dump(
            libc::NFT_MSG_GETCHAIN,
            ALL_FAMILIES,
            |_| {},
            |family, attributes, found| {
                let hook = attributes.find(CHAIN_HOOK)?;
                let number = hook
                    .map(|hook| hook.nested().find(HOOK_NUMBER))
                    .transpose()?
                    .flatten();
                let policy = attributes
                    .find(CHAIN_POLICY)?
                    .map(|policy| policy.be32())
                    .transpose()?;
                found.push(Chain {
                    family,
                    table: text(&attributes, CHAIN_TABLE)?.unwrap_or_default(),
                    name: text(&attributes, CHAIN_NAME)?.unwrap_or_default(),
                    hook: number.map(|number| number.be32()).transpose()?,
                    drops_by_policy: policy == Some(libc::NF_DROP as u32),
                });
                Ok(())
            },
        )
    }

    /// The elements of a set or map, each once, by key.
    ///
    /// While the kernel resizes the set's table, a listing has some twice and others not at all. So it is asked until it
    /// tells nothing new; one that was deleted meanwhile may be among the answer.
    pub fn elements(&mut self, table: &str, set: &str) -> Result<Vec<ListedElement>, NetlinkError> {
        let mut known = Vec::new();
        for _ in 0..LISTINGS {
            let before = known.len();
            known.extend(self.list_elements(table, set)?);
            known.sort_by(|a: &ListedElement, b| a.key.cmp(&b.key));
            known.dedup_by(|a, b| a.key == b.key);
            if known.len() == before {
                break;
            }
        }
        Ok(known)
    }

    fn list_elements(&mut self, table: &str, set: &str) -> Result<Vec<ListedElement>, NetlinkError> {
        let which = |w: &mut crate::netlink::AttributeWriter<'_>| {
            w.text(ELEMENTS_TABLE, table).text(ELEMENTS_SET, set);
        };
        self.dump(
            libc::NFT_MSG_GETSETELEM,
            FAMILY_IPV4,
            which,
            |_, attributes, found| {
                let Some(list) = attributes.find(ELEMENTS_LIST)? else {
                    return Ok(());
                };
                for element in list.nested() {
                    let fields = element?.nested();
                    found.push(ListedElement {
                        key: value(&fields, ELEMENT_KEY)?,
                        value: value(&fields, ELEMENT_DATA)?,
                    });
                }
                Ok(())
            },
        )
    }
}

fn text(attributes: &Attributes<'_>, kind: u16) -> Result<Option<String>, ParseError> {
    let attribute = attributes.find(kind)?;
    attribute
        .map(|attribute| attribute.text().map(str::to_owned))
        .transpose()
}

fn value(attributes: &Attributes<'_>, kind: u16) -> Result<Vec<u8>, ParseError> {
    let Some(data) = attributes.find(kind)? else {
        return Ok(Vec::new());
    };
    Ok(data
        .nested()
        .find(DATA_VALUE)?
        .map(|value| value.value.to_vec())
        .unwrap_or_default())
}
