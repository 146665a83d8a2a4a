package config

import "slices"

// derive sets the settings whose values depend on other settings. It does not change a setting that
// the user has given, even if its value is invalid.
func (l *loader) derive() {
	c := l.cfg
	if l.src.TaskSource {
		l.unset(taskFile, &c.TaskFile)
		l.unset(csvFile, &c.CSV)
	}
	if byName, table := c.origins[taskFile].Place, c.origins[csvFile].Place; c.TaskPath() != "" && byName > table { // the setting whose origin has the higher precedence applies
		l.unset(csvFile, &c.CSV)
	} else if byName < table {
		l.unset(taskFile, &c.TaskFile)
	}
	if c.QueueName == "" && c.JobID != "" {
		c.QueueName = c.JobID
		c.origins[queueName] = Origin{Place: Derived}
	}
	if !l.explicitlySet[eventLogToFile] {
		c.EventLogToFile = l.local()
		c.origins[eventLogToFile] = Origin{Place: Derived}
	}
	if !l.explicitlySet[eventLogToQueue] {
		c.EventLogToQueue = !l.local()
		c.origins[eventLogToQueue] = Origin{Place: Derived}
	}
	if c.Rerun != "" || c.ResumeFrom != "" {
		c.Resume = true
	}
	l.deriveRetries()
	if c.Verbose && !l.explicitlySet[logLevel] {
		c.LogLevel = "debug"
		c.origins[logLevel] = Origin{Place: Derived}
	}
	l.deriveSlots()
}

// deriveSlots sets the number of slots, if it was not given as a number.
func (l *loader) deriveSlots() {
	c := l.cfg
	switch {
	case c.NumSimultaneousTasks == autoTasks:
		cpus := l.src.CPUs
		if cpus == nil {
			cpus = UsableCPUs
		}
		c.NumSimultaneousTasks = min(max(cpus(), 1), maxTasks)
	case l.explicitlySet[numTasks]:
	case c.NumCPUs != nil:
		c.NumSimultaneousTasks = *c.NumCPUs
		c.origins[numTasks] = Origin{Place: Derived}
	default:
		c.NumSimultaneousTasks = 1
	}
}

// unset resets a setting whose value is a text to its default, which is empty.
func (l *loader) unset(name string, field *string) {
	*field = ""
	l.cfg.origins[name] = Origin{Place: Default}
}

// deriveRetries enables the retry of every failure if --retries is set and no other setting selects
// the failures to retry.
func (l *loader) deriveRetries() {
	selected := slices.ContainsFunc([]string{"retry-on-exit", "retry-on-exception", "retry-on-timeout", "retry-on-exit-codes"},
		func(name string) bool { return l.explicitlySet[name] })
	if l.cfg.Retries == 0 || selected {
		return
	}
	for name, on := range map[string]*bool{
		"retry-on-exit": &l.cfg.RetryOnExit, "retry-on-exception": &l.cfg.RetryOnException, "retry-on-timeout": &l.cfg.RetryOnTimeout,
	} {
		*on, l.cfg.origins[name] = true, Origin{Place: Derived}
	}
}

// local reports whether the tasks come from a file or from the program, instead of from a queue.
func (l *loader) local() bool {
	return l.src.TaskSource || l.explicitlySet[taskFile] || l.explicitlySet[csvFile]
}

// rules returns a fault for each required setting that is missing, and for each setting that
// contradicts another setting. With --print-config, it returns no faults.
func (l *loader) rules() (faults Errors) {
	if l.cfg.PrintConfig {
		return nil
	}
	faults = l.contradictions()
	faults = append(faults, l.resumeRules()...)
	faults = append(faults, l.queueRules()...)
	return faults
}

// contradictions returns a fault for each pair of settings that exclude each other.
func (l *loader) contradictions() (faults Errors) {
	if l.cfg.CSV != "" && l.cfg.TaskFile != "" {
		faults = append(faults, Error{Setting: flagged(csvFile), about: csvFile, valueless: true, Reason: "cannot be combined with " + flagged(taskFile) + ", because both provide the tasks; remove one of these flags"})
	}
	if l.cfg.Verbose && l.cfg.LogLevel != "debug" {
		faults = append(faults, Error{Setting: flagged("verbose"), about: "verbose", valueless: true, Reason: "contradicts " + flagged(logLevel) + " " + l.cfg.LogLevel + "; remove one of these flags"})
	}
	return faults
}

// queueRules returns the faults of the settings about queues.
func (l *loader) queueRules() (faults Errors) {
	if l.cfg.Retries > 0 && !l.local() {
		faults = append(faults, Error{Setting: flagged(retries), about: retries, valueless: true, Reason: "the tasks come from a queue, and the queue delivers failed tasks again; use --retry-on-exit, --retry-on-exception or --retry-on-timeout, and limit the attempts with --max-attempts"})
	}
	reason := "required if neither a task file nor a task source is specified; give "
	alternative := ", or a task file with " + flagged(taskFile)
	if l.src.Queue {
		reason, alternative = "required; give ", ""
	} else if l.local() {
		if !l.cfg.EventLogToQueue {
			return faults // no queue is used
		}
		reason = "required by " + flagged(eventLogToQueue) + "; give "
		alternative = ", or " + flagged(negation+eventLogToQueue)
	}
	if !l.explicitlySet[providerName] {
		faults = append(faults, l.missing(reason+AWS+" or "+GCP+alternative, providerName))
	}
	if !l.explicitlySet[jobID] && !l.explicitlySet[queueName] {
		faults = append(faults, l.missing(reason+"the ID of a job or the name of a queue"+alternative, jobID, queueName))
	}
	if l.cfg.Provider == GCP && !l.explicitlySet[projectID] {
		faults = append(faults, l.missing("required for GCP; give the ID of the project that contains the queue", projectID))
	}
	return faults
}

// resumeRules returns the faults of --resume, --rerun and --resume-from.
func (l *loader) resumeRules() Errors {
	c := l.cfg
	setting := "resume"
	switch {
	case !c.Resume:
		return nil
	case c.Rerun != "":
		setting = "rerun"
	case c.ResumeFrom != "":
		setting = "resume-from"
	}
	fault := Error{Setting: flagged(setting), about: setting, valueless: true}
	switch {
	case !l.local():
		fault.Reason = "the tasks come from a queue, which delivers a task until it is done; remove this setting"
	case !c.EventLogToFile && c.ResumeFrom == "":
		fault.Reason = "the run writes no event log; give " + flagged(eventLogToFile) + ", or the log of the earlier run with --resume-from"
	default:
		return nil
	}
	return Errors{fault}
}

// missing returns the fault that none of the settings in names was given.
func (l *loader) missing(reason string, names ...string) Error {
	var shown string
	for i, name := range names {
		if i > 0 {
			shown += " or "
		}
		s := l.known[name].setting
		shown += flagged(name) + " (" + s.env + ")"
		if l.src.LookupEnv == nil {
			continue
		}
		if raw, ok := l.src.LookupEnv(s.env); ok && l.cfg.outer.has(s.env, raw) {
			reason += "; the value of " + s.env + " is ignored, because it belongs to the run that started this task"
		}
	}
	return Error{Setting: shown, Reason: reason, about: names[0], valueless: true}
}
