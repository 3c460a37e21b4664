//! Tests of what becomes of documents that are put into the store.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};

use crate::documents::{Document, Kind, load};
use crate::error::Result;
use crate::store::{Home, Outcome, Put, ResourceFilter, Store, Tagged};

/// A home and a folder of documents.
struct Bench {
    folder: tempfile::TempDir,
    store: Store,
}

impl Bench {
    fn new() -> Self {
        Self::with_settings("")
    }

    fn with_settings(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(Utf8Path::from_path(folder.path()).unwrap().join("home")).unwrap();
        std::fs::write(home.path().join("config.toml"), settings).unwrap();
        let store = Store::open(&home).unwrap();
        Self { folder, store }
    }

    fn path(&self) -> Utf8PathBuf {
        Utf8Path::from_path(self.folder.path()).unwrap().to_owned()
    }

    fn documents(&self, text: &str) -> Vec<Document> {
        let file = self.path().join("documents.yml");
        // The sets are glued together from parts that end in a separator.
        std::fs::write(&file, text.trim_end_matches("---\n")).unwrap();
        let (documents, diagnostics) = load(&file, &BTreeMap::new());
        assert!(!diagnostics.has_errors(), "{}", diagnostics.render());
        documents
    }

    fn apply(&self, text: &str) -> Result<Vec<Put>> {
        self.store.apply(&self.documents(text))
    }

    /// `what became of it` and `which`, for each document.
    fn applied(&self, text: &str) -> Vec<String> {
        self.apply(text)
            .unwrap()
            .iter()
            .map(|put| format!("{} {}", put.outcome.words(), put.resource.label()))
            .collect()
    }

    /// The message and the diagnostics of a refusal, without the folder's name.
    fn refused(&self, text: &str) -> String {
        let before = self.count();
        let failure = self.apply(text).unwrap_err();
        assert_eq!(self.count(), before, "a refused set leaves nothing");
        format!("{failure}\n{}", failure.details().unwrap_or_default())
            .replace(&format!("{}/", self.path()), "")
    }

    fn count(&self) -> usize {
        Kind::ALL
            .into_iter()
            .map(|kind| {
                self.store
                    .resources(kind, &ResourceFilter::default())
                    .unwrap()
                    .len()
            })
            .sum()
    }
}

fn component(name: &str, version: &str, text: &str) -> String {
    format!(
        "kind: Component\nname: {name}\nsemanticVersion: {version}\nplatform: Linux\ndata: |\n  name: {name}\n  \
         schemaVersion: 1.0\n  phases:\n    - name: build\n      steps:\n        - name: say\n          action: \
         ExecuteBash\n          inputs:\n            commands:\n              - echo {text}\n---\n"
    )
}

fn recipe(name: &str, version: &str, components: &[&str]) -> String {
    let mut text = format!(
        "kind: ImageRecipe\nname: {name}\nsemanticVersion: {version}\nparentImage: debian-12/x.x.x\n"
    );
    if !components.is_empty() {
        text.push_str("components:\n");
    }
    for component in components {
        text.push_str(&format!("  - componentArn: {component}\n"));
    }
    text + "---\n"
}

const INFRASTRUCTURE: &str = "kind: InfrastructureConfiguration\nname: small\ninstanceProfileName: none\ninstanceTypes: [t3.small]\n---\n";

fn pipeline(recipe: &str) -> String {
    format!(
        "kind: ImagePipeline\nname: nightly\nimageRecipeArn: {recipe}\ninfrastructureConfigurationArn: small\n---\n"
    )
}

#[test]
fn a_set_is_applied_in_any_order_and_again_without_change() {
    let bench = Bench::new();
    let set = [
        pipeline("web/1.x.x"),
        recipe("web", "1.0.0", &["hello/x.x.x"]),
        INFRASTRUCTURE.to_owned(),
        component("hello", "1.0.0", "one"),
    ]
    .concat();
    assert_eq!(
        bench.applied(&set),
        [
            "created component/hello/1.0.0/1",
            "created image-recipe/web/1.0.0",
            "created infrastructure-configuration/small",
            "created image-pipeline/nightly",
        ]
    );
    assert!(
        bench
            .applied(&set)
            .iter()
            .all(|line| line.starts_with("unchanged "))
    );
    // Comments, order of keys and quotes are no content.
    let rewritten = set.replace(
        "kind: InfrastructureConfiguration\nname: small\n",
        "# the same\nname: \"small\"\nkind: InfrastructureConfiguration\n",
    );
    assert!(
        bench
            .apply(&rewritten)
            .unwrap()
            .iter()
            .all(|put| put.outcome == Outcome::Unchanged)
    );
}

#[test]
fn components_get_build_numbers_and_recipes_do_not_change() {
    let bench = Bench::new();
    assert_eq!(
        bench.applied(&component("hello", "1.0.0", "one")),
        ["created component/hello/1.0.0/1"]
    );
    assert_eq!(
        bench.applied(&component("hello", "1.0.0", "two")),
        ["new build component/hello/1.0.0/2"]
    );
    assert_eq!(
        bench.applied(&component("hello", "1.0.0", "two")),
        ["unchanged component/hello/1.0.0/2"]
    );
    // Back to what build 1 said is a change: the newest build is what references mean.
    assert_eq!(
        bench.applied(&component("hello", "1.0.0", "one")),
        ["new build component/hello/1.0.0/3"]
    );
    assert_eq!(
        bench.applied(&component("hello", "1.1.0", "one")),
        ["new version component/hello/1.1.0/1"]
    );

    assert_eq!(
        bench.applied(&recipe("web", "1.0.0", &[])),
        ["created image-recipe/web/1.0.0"]
    );
    insta::assert_snapshot!(bench.refused(&recipe("web", "1.0.0", &["hello/1.0.0"])), @r#"
    nothing was applied: there is a problem
    error[version-exists]: image recipe web/1.0.0 is in the store with another content, and versions of image recipes never change
     --> documents.yml:3:18
      |
    3 | semanticVersion: 1.0.0
      |                  ^^^^^
      = hint: give it the next version, 1.0.1; with `semanticVersion: 1.0.x` each change gets the next one by itself

    1 error
    "#);
    assert_eq!(
        bench.applied(&recipe("web", "1.0.1", &["hello/1.0.0"])),
        ["new version image-recipe/web/1.0.1"]
    );
}

#[test]
fn a_wildcard_version_gets_the_next_number_only_for_new_content() {
    let bench = Bench::new();
    bench.applied(&component("hello", "1.0.0", "one"));
    assert_eq!(
        bench.applied(&recipe("web", "1.0.x", &[])),
        ["created image-recipe/web/1.0.0"]
    );
    assert_eq!(
        bench.applied(&recipe("web", "1.0.x", &[])),
        ["unchanged image-recipe/web/1.0.0"]
    );
    assert_eq!(
        bench.applied(&recipe("web", "1.0.x", &["hello/1.0.0"])),
        ["new version image-recipe/web/1.0.1"]
    );
    assert_eq!(
        bench.applied(&recipe("web", "2.x.x", &["hello/1.0.0"])),
        ["new version image-recipe/web/2.0.0"]
    );
    let record = bench
        .store
        .resource_named(Kind::ImageRecipe, "web/1.x.x")
        .unwrap();
    assert_eq!(record.id(), "web/1.0.1");
    // What is on record says the version that was given.
    assert_eq!(record.value().unwrap()["semanticVersion"], "1.0.1");
    assert_eq!(
        record.read().unwrap().version().unwrap().to_string(),
        "1.0.1"
    );
    assert_eq!(record.arn, "local:image-recipe/web/1.0.1");
}

#[test]
fn wildcards_mean_the_highest_number_and_the_highest_build() {
    let bench = Bench::new();
    for version in ["1.2.0", "1.10.0", "1.9.9", "2.0.0"] {
        bench.applied(&component("hello", version, "one"));
    }
    bench.applied(&component("hello", "1.10.0", "two"));
    for (reference, wanted) in [
        ("hello", "hello/2.0.0/1"),
        ("hello/1.x.x", "hello/1.10.0/2"),
        ("hello/1.9.x", "hello/1.9.9/1"),
        ("hello/1.10.0", "hello/1.10.0/2"),
        ("hello/1.10.0/1", "hello/1.10.0/1"),
        ("local:component/hello/1.2.0", "hello/1.2.0/1"),
        (
            "arn:aws:imagebuilder:eu-west-1:123456789012:component/hello/x.x.x",
            "hello/2.0.0/1",
        ),
    ] {
        let found = bench
            .store
            .resource_named(Kind::Component, reference)
            .unwrap();
        assert_eq!(found.id(), wanted, "{reference}");
    }
}

#[test]
fn kinds_without_versions_change_in_place_and_remember() {
    let bench = Bench::new();
    bench.applied(INFRASTRUCTURE);
    let changed = INFRASTRUCTURE.replace("t3.small", "t3.large");
    assert_eq!(
        bench.applied(&changed),
        ["updated infrastructure-configuration/small"]
    );
    let record = bench
        .store
        .resource_named(Kind::InfrastructureConfiguration, "small")
        .unwrap();
    assert_eq!(record.revision, 2);
    assert_eq!(record.value().unwrap()["instanceTypes"][0], "t3.large");
    let history = bench.store.resource_history(&record).unwrap();
    assert_eq!(history.len(), 1);
    assert_eq!(history[0].0, 1);
    assert!(history[0].1.contains("t3.small"), "{}", history[0].1);
}

#[test]
fn tags_change_without_a_new_version() {
    let bench = Bench::new();
    let tagged = |tags: &str| {
        recipe("web", "1.0.0", &[]).replace("---\n", &format!("tags: {{{tags}}}\n---\n"))
    };
    bench.applied(&tagged("team: web, stage: test"));
    let get = || {
        bench
            .store
            .resource_named(Kind::ImageRecipe, "web")
            .unwrap()
    };
    bench
        .store
        .add_tags(Tagged::Resource(&get()), &[("owner".into(), "ann".into())])
        .unwrap();
    assert_eq!(
        bench.applied(&tagged("team: shop")),
        ["tags changed image-recipe/web/1.0.0"]
    );
    let tags: Vec<_> = get().tags.into_iter().collect();
    assert_eq!(
        tags,
        [
            ("owner".to_owned(), "ann".to_owned()),
            ("team".to_owned(), "shop".to_owned())
        ],
        "what was given by hand stays, what the document dropped goes"
    );
    assert_eq!(
        bench.applied(&tagged("team: shop")),
        ["unchanged image-recipe/web/1.0.0"]
    );
    let failure = bench
        .store
        .remove_tags(Tagged::Resource(&get()), &["team".into(), "nothing".into()])
        .unwrap_err();
    assert_eq!(failure.to_string(), "there is no tag `nothing`");
    assert!(get().tags.contains_key("team"), "all or none");
}

#[test]
fn what_is_referred_to_stays() {
    let bench = Bench::new();
    bench.applied(
        &[
            component("hello", "1.0.0", "one"),
            component("hello", "1.1.0", "one"),
            recipe("web", "1.0.0", &["hello/x.x.x"]),
            INFRASTRUCTURE.to_owned(),
            pipeline("web/1.0.0"),
        ]
        .concat(),
    );
    let get = |kind, id: &str| bench.store.resource_named(kind, id).unwrap();
    // The reference means 1.1.0; the older one is free to go.
    bench
        .store
        .delete_resource(&get(Kind::Component, "hello/1.0.0"))
        .unwrap();
    let failure = bench
        .store
        .delete_resource(&get(Kind::Component, "hello/1.1.0"))
        .unwrap_err();
    insta::assert_snapshot!(format!("{failure}\n{}\n{}", failure.details().unwrap(), failure.hint().unwrap()), @r#"
    component/hello/1.1.0/1 is referred to
    component/hello/1.1.0/1 is what image-recipe/web/1.0.0 means by `componentArn: hello/x.x.x`
    delete what refers to it first, or name all of them at once
    "#);
    let failure = bench
        .store
        .delete_resource(&get(Kind::InfrastructureConfiguration, "small"))
        .unwrap_err();
    insta::assert_snapshot!(failure.details().unwrap(), @"infrastructure-configuration/small is what image-pipeline/nightly means by `infrastructureConfigurationArn: small`");
    // All at once is fine: they hold only each other.
    bench
        .store
        .delete_resources(&[
            get(Kind::Component, "hello"),
            get(Kind::ImageRecipe, "web"),
            get(Kind::ImagePipeline, "nightly"),
        ])
        .unwrap();
    assert_eq!(bench.count(), 1);
    // A number that was given once is not given again.
    assert_eq!(
        bench.applied(&component("hello", "1.1.0", "two")),
        ["created component/hello/1.1.0/2"]
    );
}

#[test]
fn missing_references_are_named_with_what_there_is() {
    let bench = Bench::new();
    bench.applied(&component("hello", "1.0.0", "one"));
    insta::assert_snapshot!(bench.refused(&recipe("web", "1.0.0", &["helo/1.0.0", "hello/2.x.x", "nothing-like-it"])), @r#"
    nothing was applied: there are 3 problems
    error[missing-reference]: there is no component helo/1.0.0
     --> documents.yml:6:19
      |
    6 |   - componentArn: helo/1.0.0
      |                   ^^^^^^^^^^
      = expected: a component of the store, or one that is applied along with it
      = hint: did you mean `hello`?

    error[missing-reference]: there is no component hello/2.x.x
     --> documents.yml:7:19
      |
    7 |   - componentArn: hello/2.x.x
      |                   ^^^^^^^^^^^
      = expected: a component of the store, or one that is applied along with it
      = hint: there is 1.0.0/1

    error[missing-reference]: there is no component nothing-like-it/x.x.x
     --> documents.yml:8:19
      |
    8 |   - componentArn: nothing-like-it
      |                   ^^^^^^^^^^^^^^^
      = expected: a component of the store, or one that is applied along with it
      = hint: `ovenbird apply` of its file or folder puts a component into the store

    3 errors
    "#);
    insta::assert_snapshot!(bench.refused(&pipeline("web/1.x.x")), @r#"
    nothing was applied: there are 2 problems
    error[missing-reference]: there is no image recipe web/1.x.x
     --> documents.yml:3:17
      |
    3 | imageRecipeArn: web/1.x.x
      |                 ^^^^^^^^^
      = expected: an image recipe of the store, or one that is applied along with it
      = hint: `ovenbird apply` of its file or folder puts an image recipe into the store

    error[missing-reference]: there is no infrastructure configuration small
     --> documents.yml:4:33
      |
    4 | infrastructureConfigurationArn: small
      |                                 ^^^^^
      = expected: an infrastructure configuration of the store, or one that is applied along with it
      = hint: `ovenbird apply` of its file or folder puts an infrastructure configuration into the store

    2 errors
    "#);
    // Managed components are not the store's.
    let managed = "arn:aws:imagebuilder:eu-west-1:aws:component/update-linux/x.x.x";
    assert_eq!(
        bench.applied(&recipe("managed", "1.0.0", &[managed])),
        ["created image-recipe/managed/1.0.0"]
    );
}

#[test]
fn names_that_are_one_in_arns_collide() {
    let bench = Bench::new();
    bench.applied(&recipe("Web Server", "1.0.0", &[]));
    insta::assert_snapshot!(bench.refused(&recipe("web-server", "1.1.0", &[])), @r#"
    nothing was applied: there is a problem
    error[name-collision]: the image recipe `web-server` is the same as `Web Server`, which is in the store
     --> documents.yml:2:7
      |
    2 | name: web-server
      |       ^^^^^^^^^^
      = hint: in ARNs both are `web-server`: write the name as it is there, or choose another

    1 error
    "#);
    insta::assert_snapshot!(bench.refused(&[recipe("shop", "1.0.0", &[]), recipe("shop", "1.0.0", &[])].concat()), @r#"
    nothing was applied: there is a problem
    error[given-twice]: the image recipe shop/1.0.0 is given twice
     --> documents.yml:7:7
      |
    7 | name: shop
      |       ^^^^
      = hint: the first stands in documents.yml, line 1

    1 error
    "#);
}

#[test]
fn quotas_hold() {
    let bench = Bench::with_settings("[quotas]\nimageRecipes = 2\ntagsPerResource = 1\n");
    bench.applied(&[recipe("one", "1.0.0", &[]), recipe("two", "1.0.0", &[])].concat());
    // Further versions are no further recipes.
    bench.applied(&recipe("one", "1.1.0", &[]));
    insta::assert_snapshot!(bench.refused(&recipe("three", "1.0.0", &[])), @r#"
    nothing was applied: there is a problem
    error[quota]: there would be 3 image recipes
     --> documents.yml:2:7
      |
    2 | name: three
      |       ^^^^^
      = expected: at most 2
      = hint: `imageRecipes` under `[quotas]` in the home's config.toml changes the limit

    1 error
    "#);
    let tagged = recipe("two", "1.1.0", &[]).replace("---\n", "tags: {a: '1', b: '2'}\n---\n");
    insta::assert_snapshot!(bench.refused(&tagged), @r#"
    nothing was applied: there is a problem
    error[quota]: it has 2 tags
     --> documents.yml:5:7
      |
    5 | tags: {a: '1', b: '2'}
      |       ^^^^^^^^^^^^^^^^
      = expected: at most 1
      = hint: `tagsPerResource` under `[quotas]` in the home's config.toml changes the limit

    1 error
    "#);
}

#[test]
fn quotas_of_what_is_in_a_document_go_both_ways() {
    let components = |count: usize| {
        let list = vec!["- componentArn: hello/x.x.x\n"; count].concat();
        let hello = component("hello", "1.0.0", "one");
        format!(
            "{hello}kind: ImageRecipe\nname: wide\nsemanticVersion: 1.0.0\nparentImage: debian-12\ncomponents:\n{list}"
        )
    };
    let strict = Bench::new().refused(&components(21));
    assert!(
        strict.contains("error[quota]: it has 21 components") && strict.contains("at most 20"),
        "{strict}"
    );
    let bench = Bench::with_settings("[quotas]\ncomponentsPerRecipe = 30\n");
    bench.applied(&components(21));
    assert!(bench.refused(&components(31)).contains("at most 30"));
    let regions = "kind: DistributionConfiguration\nname: far\ndistributions:\n- region: eu-west-1\n  amiDistributionConfiguration:\n\
                   \x20   name: web-{{ imagebuilder:buildDate }}\n    targetAccountIds: ['111111111111', '222222222222']\n";
    let bench = Bench::with_settings("[quotas]\namiCopiesPerDistribution = 2\n");
    assert!(
        bench
            .refused(regions)
            .contains("it has 3 copies of the AMI")
    );
}

#[test]
fn a_rehearsal_leaves_nothing() {
    let bench = Bench::new();
    let documents = bench.documents(&component("hello", "1.0.0", "one"));
    let puts = bench.store.rehearse_apply(&documents).unwrap();
    assert_eq!(puts[0].outcome, Outcome::Created);
    assert_eq!(bench.count(), 0);
    assert_eq!(
        bench.applied(&component("hello", "1.0.0", "one")),
        ["created component/hello/1.0.0/1"]
    );
}
