//! Users and groups, read straight from the files.
//!
//! A static binary cannot use the C library's look-ups: they would load plug-ins of the guest's own C library.

use std::path::Path;

/// One line of `/etc/passwd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Number of the user.
    pub uid: u32,
    /// Number of the primary group.
    pub gid: u32,
    /// Home folder.
    pub home: String,
}

/// The account files of a machine.
#[derive(Debug, Default)]
pub struct Accounts {
    passwd: String,
    group: String,
}

impl Accounts {
    /// Reads `passwd` and `group` below a folder, usually `/etc`. Missing files are empty.
    pub fn read(folder: &Path) -> Self {
        let text = |name| {
            std::fs::read(folder.join(name))
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .unwrap_or_default()
        };
        Self {
            passwd: text("passwd"),
            group: text("group"),
        }
    }

    /// A user by name, or by number in digits.
    pub fn user(&self, name: &str) -> Option<User> {
        self.users()
            .find(|(known, _)| *known == name)
            .map(|(_, user)| user)
            .or_else(|| {
                let uid: u32 = name.parse().ok()?;
                // A number without an account is valid for chown; its group is then the number itself.
                Some(self.user_by_number(uid).unwrap_or(User {
                    uid,
                    gid: uid,
                    home: "/".to_owned(),
                }))
            })
    }

    /// The account of a number.
    pub fn user_by_number(&self, uid: u32) -> Option<User> {
        self.users()
            .find(|(_, user)| user.uid == uid)
            .map(|(_, user)| user)
    }

    /// A group's number by name, or by number in digits.
    pub fn group(&self, name: &str) -> Option<u32> {
        self.group
            .lines()
            .find_map(|line| {
                let mut fields = line.split(':');
                (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
            })
            .or_else(|| name.parse().ok())
    }

    fn users(&self) -> impl Iterator<Item = (&str, User)> {
        self.passwd.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, uid, gid, _, home, ..] = fields[..] else {
                return None;
            };
            Some((
                name,
                User {
                    uid: uid.parse().ok()?,
                    gid: gid.parse().ok()?,
                    home: home.to_owned(),
                },
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_numbers_and_broken_lines() {
        let accounts = Accounts {
            passwd: "root:x:0:0:root:/root:/bin/bash\nbroken\nweb:x:33:44::/var/www:/bin/sh\n"
                .to_owned(),
            group: "root:x:0:\nbroken\nadm:x:4:web\n".to_owned(),
        };
        let web = accounts.user("web").expect("web");
        assert_eq!((web.uid, web.gid, web.home.as_str()), (33, 44, "/var/www"));
        assert_eq!(accounts.user("33").map(|user| user.gid), Some(44));
        assert_eq!(
            accounts.user("1234").map(|user| (user.uid, user.gid)),
            Some((1234, 1234))
        );
        assert_eq!(accounts.user("nobody"), None);
        assert_eq!(accounts.group("adm"), Some(4));
        assert_eq!(accounts.group("77"), Some(77));
        assert_eq!(accounts.group("wheel"), None);
    }
}
