//! The chat template: the checkpoint's own Jinja program that turns pictures and a question into the prompt's text.

use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, Value, context};
use serde_json::json;

use crate::checkpoint::{Json, read_json_if_present, write};
use crate::error::{Error, Result};

/// The system turn that the release's template adds to a conversation without one.
pub const SYSTEM_LINE: &str = "You are a helpful assistant.";

/// The file that a template is written to.
const FILE: &str = "chat_template.jinja";

/// The release's chat layout, for checkpoints that are made here.
const STANDARD: &str = r"{%- set seen = namespace(pictures=0, videos=0) -%}
{%- if messages[0]['role'] != 'system' -%}
    {{- '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' -}}
{%- endif -%}
{%- for message in messages -%}
    {{- '<|im_start|>' ~ message['role'] ~ '\n' -}}
    {%- if message['content'] is string -%}
        {{- message['content'] -}}
    {%- else -%}
        {%- for part in message['content'] -%}
            {%- if part['type'] == 'image' or 'image' in part or 'image_url' in part -%}
                {%- set seen.pictures = seen.pictures + 1 -%}
                {%- if add_vision_id -%}{{- 'Picture ' ~ seen.pictures ~ ': ' -}}{%- endif -%}
                {{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
            {%- elif part['type'] == 'video' or 'video' in part -%}
                {%- set seen.videos = seen.videos + 1 -%}
                {%- if add_vision_id -%}{{- 'Video ' ~ seen.videos ~ ': ' -}}{%- endif -%}
                {{- '<|vision_start|><|video_pad|><|vision_end|>' -}}
            {%- else -%}
                {{- part['text'] -}}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{- '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}
";

/// A compiled chat template.
#[derive(Clone)]
pub struct Template {
    source: String,
    origin: String,
    environment: Environment<'static>,
}

impl Template {
    /// Reads the checkpoint's template where `transformers` looks for it, in this order: `chat_template.json`,
    /// `chat_template.jinja`, `chat_template` in `tokenizer_config.json` (a text, or a list with one named `default`).
    ///
    /// # Errors
    /// None of them is there; the template does not compile.
    pub fn load(folder: &Path) -> Result<Self> {
        let legacy = folder.join("chat_template.json");
        if let Some(value) = read_json_if_present(&legacy)? {
            let file = Json::new(&legacy, &value)?;
            let source = file.text("chat_template")?.ok_or_else(|| file.missing("chat_template"))?;
            return Self::new(source.to_owned(), legacy.display().to_string());
        }
        let path = folder.join(FILE);
        if path.is_file() {
            let source = std::fs::read_to_string(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
            return Self::new(source, path.display().to_string());
        }
        let path = folder.join("tokenizer_config.json");
        let value = read_json_if_present(&path)?.unwrap_or_else(|| json!({}));
        let file = Json::new(&path, &value)?;
        let found = file.get("chat_template");
        let named = || found?.as_array()?.iter().find(|entry| entry["name"] == "default")?["template"].as_str();
        let source = found.and_then(serde_json::Value::as_str).or_else(named);
        let missing = "is missing, and there is no chat_template.jinja; fetch the checkpoint's chat template";
        let source = source.ok_or_else(|| file.error("chat_template", missing))?;
        Self::new(source.to_owned(), path.display().to_string())
    }

    /// The release's layout: a system line where there is none, turns between `<|im_start|>` and `<|im_end|>`, one
    /// `<|image_pad|>` for each picture.
    ///
    /// # Errors
    /// None: the program is fixed, and a test compiles it.
    pub fn standard() -> Result<Self> {
        Self::new(STANDARD.to_owned(), "this program".to_owned())
    }

    fn new(source: String, origin: String) -> Result<Self> {
        let mut environment = Environment::new();
        // As `transformers` renders: a block's own line leaves no trace.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        let failed = |source| Error::Template { origin: origin.clone(), source };
        environment.set_syntax(syntax.map_err(failed)?);
        environment.add_function(
            "raise_exception",
            |message: String| -> std::result::Result<Value, minijinja::Error> {
                Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
            },
        );
        environment.add_template_owned("chat", source.clone()).map_err(failed)?;
        Ok(Self { source, origin, environment })
    }

    /// The prompt's text for one user turn of `pictures` pictures, then `text`, up to where the answer begins. Each
    /// picture is one `<|image_pad|>`.
    ///
    /// # Errors
    /// The template fails, or refuses the conversation.
    pub fn render(&self, pictures: usize, text: &str) -> Result<String> {
        let mut content = vec![context! { type => "image" }; pictures];
        content.push(context! { type => "text", text => text });
        let context = context! {
            messages => vec![context! { role => "user", content => content }],
            add_generation_prompt => true,
            add_vision_id => false,
        };
        let failed = |source| Error::Template { origin: self.origin.clone(), source };
        let template = self.environment.get_template("chat").map_err(failed)?;
        template.render(context).map_err(failed)
    }

    /// Writes `chat_template.jinja`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        write(&folder.join(FILE), self.source.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_PICTURES: &str = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n\
        <|vision_start|><|image_pad|><|vision_end|><|vision_start|><|image_pad|><|vision_end|>Q?<|im_end|>\n\
        <|im_start|>assistant\n";

    fn load(files: &[(&str, &str)]) -> Result<Template> {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        Template::load(folder.path())
    }

    #[test]
    fn the_standard_layout_is_the_releases() {
        assert_eq!(Template::standard().unwrap().render(2, "Q?").unwrap(), TWO_PICTURES);
        assert!(TWO_PICTURES.contains(SYSTEM_LINE));
    }

    #[test]
    fn a_question_is_never_read_as_a_program() {
        let rendered = Template::standard().unwrap().render(0, " {{ 1 + 1 }} <b>&\n").unwrap();
        assert!(rendered.contains("user\n {{ 1 + 1 }} <b>&\n<|im_end|>"), "{rendered}");
    }

    #[test]
    fn a_template_is_found_in_each_of_its_places_and_the_first_one_wins() {
        let in_config = ("tokenizer_config.json", r#"{"chat_template": "config {{ messages[0].role }}"}"#);
        let listed =
            r#"{"chat_template": [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "listed"}]}"#;
        let jinja = ("chat_template.jinja", "jinja");
        let legacy = ("chat_template.json", r#"{"chat_template": "legacy"}"#);
        for (files, rendered) in [
            (&[in_config][..], "config user"),
            (&[("tokenizer_config.json", listed)], "listed"),
            (&[in_config, jinja], "jinja"),
            (&[in_config, jinja, legacy], "legacy"),
        ] {
            assert_eq!(load(files).unwrap().render(1, "Q?").unwrap(), rendered);
        }
    }

    #[test]
    fn blocks_leave_no_lines_behind() {
        let template = "{% for message in messages %}\n  {% if true %}\nx\n  {% endif %}\n{% endfor %}\n";
        assert_eq!(load(&[("chat_template.jinja", template)]).unwrap().render(0, "").unwrap(), "x\n");
    }

    #[test]
    fn what_is_saved_is_what_was_read() {
        let folder = tempfile::tempdir().unwrap();
        let template = Template::standard().unwrap();
        template.save(folder.path()).unwrap();
        assert_eq!(Template::load(folder.path()).unwrap().source, template.source);
    }

    #[test]
    fn a_missing_a_broken_and_a_refusing_template_are_named() {
        let message = |result: Result<String>| result.unwrap_err().to_string();
        let missing = message(load(&[]).and_then(|template| template.render(1, "Q?")));
        assert!(missing.contains("tokenizer_config.json: field `chat_template`: is missing"), "{missing}");
        for (source, named) in [("{% if %}", "syntax error"), ("{{ raise_exception('no pictures') }}", "no pictures")] {
            let message =
                message(load(&[("chat_template.jinja", source)]).and_then(|template| template.render(1, "Q?")));
            assert!(message.contains("chat_template.jinja") && message.contains(named), "{message}");
        }
    }
}
