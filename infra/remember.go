package infra

import (
	"fmt"

	"github.com/aws/aws-cdk-go/awscdk/v2"

	"github.com/vantagecompute/slurm-factory-publish/infra/template"
)

// settingsKey is where the template's metadata holds the settings.
const settingsKey = "SlurmFactory::Settings"

// rememberSettings stores the settings in the template. They are part of what is
// deployed: an update that is rolled back restores those of before.
func rememberSettings(stack awscdk.Stack, c Config) {
	if len(c.Settings) == 0 {
		return
	}
	stored := map[string]any{}
	for name, values := range c.Settings {
		stored[name] = values
	}
	stack.TemplateOptions().SetMetadata(&map[string]any{settingsKey: stored})
}

// Remembered is the settings with which a template was made, by name. It is empty for a
// template of a version that did not store them, and of another app.
func Remembered(t template.Template) (map[string][]string, error) {
	stored, ok := t.Metadata[settingsKey]
	if !ok {
		return nil, nil
	}
	byName, ok := stored.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("the template's %s is not a map of settings", settingsKey)
	}
	settings := map[string][]string{}
	for name, v := range byName {
		values, ok := v.([]any)
		if !ok {
			return nil, fmt.Errorf("%s of the template: %s is not a list of values", settingsKey, name)
		}
		settings[name] = []string{}
		for _, e := range values {
			settings[name] = append(settings[name], fmt.Sprint(e))
		}
	}
	return settings, nil
}
