"""The audit: exams chosen by what a model shows, judged by fixed rules, with evidence."""
