//! A pod's volumes: what stands in them, and how they change under a running program.
//!
//! ```text
//!   volume/ tls.crt ──► ..data/tls.crt        links that never change
//!           ..data ───► ..2                   the one that does, by a rename: all files of a Secret change at once
//!           ..2/ tls.crt  tls.key  ca.crt     the files
//! ```

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::{KeyToPath, Volume};

use super::objects::{Data, Objects};

/// Files by their path in the volume, with their modes.
pub(super) type Files = BTreeMap<String, (Vec<u8>, u32)>;

/// A volume that a pod has.
#[derive(Debug)]
pub(super) struct Mounted {
    spec: Volume,
    folder: PathBuf,
    group: Option<u32>,
    /// Of what comes from objects.
    files: Files,
    generation: u32,
}

impl Mounted {
    /// Makes the volume in `folder`, of its [`files`]. `claims`: where persistent volumes are, which nobody has to provide here.
    pub(super) fn make(spec: &Volume, folder: &Path, claims: &Path, group: Option<u32>, files: Option<Files>) -> Self {
        let folder = match &spec.persistent_volume_claim {
            Some(claim) => claims.join(&claim.claim_name),
            None => folder.join(&spec.name),
        };
        fs::create_dir_all(&folder).unwrap();
        let mut mounted = Self { spec: spec.clone(), folder, group, files: Files::new(), generation: 0 };
        match files {
            Some(files) => mounted.publish(files),
            None => mounted.make_writable(),
        }
        mounted
    }

    pub(super) fn name(&self) -> &str {
        &self.spec.name
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Brings the files up to date. An object that is gone leaves them as they are.
    pub(super) fn update(&mut self, objects: &Objects) {
        if let Ok(Some(files)) = files(&self.spec, objects)
            && files != self.files
        {
            self.publish(files);
        }
    }

    fn make_writable(&self) {
        chown(&self.folder, None, self.group).unwrap();
        fs::set_permissions(&self.folder, Permissions::from_mode(0o2777)).unwrap();
    }

    fn publish(&mut self, files: Files) {
        let before = format!("..{}", self.generation);
        self.generation += 1;
        let now = format!("..{}", self.generation);
        let folder = self.folder.join(&now);
        fs::create_dir(&folder).unwrap();
        for (path, (content, mode)) in &files {
            let file = folder.join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, content).unwrap();
            chown(&file, None, self.group).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(*mode)).unwrap();
        }
        symlink(&now, self.folder.join("..data_tmp")).unwrap();
        fs::rename(self.folder.join("..data_tmp"), self.folder.join("..data")).unwrap();
        let top = |files: &Files| -> Vec<String> {
            files.keys().map(|path| path.split('/').next().unwrap_or_default().to_owned()).collect()
        };
        let (old, new) = (top(&self.files), top(&files));
        for name in new {
            // A link of before leads to the new file already.
            symlink(Path::new("..data").join(&name), self.folder.join(&name)).ok();
        }
        for gone in old.iter().filter(|name| !folder.join(name).exists()) {
            fs::remove_file(self.folder.join(gone)).ok();
        }
        if self.generation > 1 {
            fs::remove_dir_all(self.folder.join(before)).unwrap();
        }
        self.files = files;
    }
}

/// What stands in a volume that is made of objects; `None`: it is for the pod to write to. An error: the object or the key that is
/// not there.
pub(super) fn files(volume: &Volume, objects: &Objects) -> Result<Option<Files>, String> {
    if volume.empty_dir.is_some() || volume.persistent_volume_claim.is_some() {
        return Ok(None);
    }
    let mut files = Files::new();
    if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        let mode = source.default_mode.unwrap_or(0o644);
        add(&mut files, name, secret(objects, name)?, source.items.as_deref(), mode)?;
    } else if let Some(source) = &volume.config_map {
        let mode = source.default_mode.unwrap_or(0o644);
        let data = objects.config_map(&source.name).ok_or_else(|| format!("ConfigMap {}", source.name))?;
        add(&mut files, &source.name, data, source.items.as_deref(), mode)?;
    } else if let Some(projected) = &volume.projected {
        for source in projected.sources.iter().flatten() {
            let source =
                source.secret.as_ref().unwrap_or_else(|| panic!("{}: only Secrets are projected here", volume.name));
            let mode = projected.default_mode.unwrap_or(0o644);
            add(&mut files, &source.name, secret(objects, &source.name)?, source.items.as_deref(), mode)?;
        }
    } else {
        panic!("{}: this node knows no such volume: {volume:?}", volume.name);
    }
    Ok(Some(files))
}

fn secret<'a>(objects: &'a Objects, name: &str) -> Result<&'a Data, String> {
    objects.secret(name).ok_or_else(|| format!("Secret {name}"))
}

fn add(files: &mut Files, of: &str, data: &Data, items: Option<&[KeyToPath]>, mode: i32) -> Result<(), String> {
    let bits = |mode: i32| u32::try_from(mode).unwrap();
    let Some(items) = items else {
        files.extend(data.iter().map(|(key, value)| (key.clone(), (value.clone(), bits(mode)))));
        return Ok(());
    };
    for item in items {
        let value = data.get(&item.key).ok_or_else(|| format!("the key {} of {of}", item.key))?;
        files.insert(item.path.clone(), (value.clone(), bits(item.mode.unwrap_or(mode))));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn objects(certificate: &str) -> Objects {
        Objects::of_secrets([("tls", [("tls.crt", certificate), ("tls.key", "key")].as_slice())])
    }

    #[test]
    fn all_files_of_a_volume_change_at_once_and_their_paths_stay() {
        let folder = tempfile::tempdir().unwrap();
        let volume = serde_json::from_value(json!({
            "name": "tls",
            "projected": { "defaultMode": 0o440, "sources": [{ "secret": { "name": "tls", "items": [
                { "key": "tls.crt", "path": "example/tls.crt" }, { "key": "tls.key", "path": "example/tls.key" },
            ] } }] },
        }))
        .unwrap();
        let make = |objects: &Objects| {
            let files = files(&volume, objects)?;
            Ok::<_, String>(Mounted::make(&volume, folder.path(), folder.path(), None, files))
        };
        assert_eq!(make(&Objects::default()).unwrap_err(), "Secret tls");
        let mut mounted = make(&objects("old")).unwrap();
        let file = folder.path().join("tls/example/tls.crt");
        let read = || fs::read_to_string(&file).unwrap();
        assert_eq!((read().as_str(), fs::metadata(&file).unwrap().permissions().mode() & 0o777), ("old", 0o440));
        let data = folder.path().join("tls/..data");
        let before = fs::read_link(&data).unwrap();
        mounted.update(&objects("old"));
        assert_eq!(fs::read_link(&data).unwrap(), before, "nothing has changed");
        mounted.update(&objects("new"));
        assert_eq!(read(), "new");
        assert!(!folder.path().join("tls").join(before).exists());
        mounted.update(&Objects::default());
        assert_eq!(read(), "new", "what is gone stays with who has it");
    }
}
