"""Every reason word that somebody can meet: who meets it, what it means, what to do.

``docs/errors.md`` is made of this table by ``python -m headwater.errors_docs``. A test finds the
words in the code and fails if one is missing here, or if one that is here is used nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass

OTHER = "other"
"""What a counter says of a word that is not in the table, so that its labels stay few."""

OPERATOR = "operator"
CLIENT = "client"
SELECTOR = "selector"
PEER = "any peer"


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason word.

    Attributes:
        word: Lower case with hyphens; it does not change once it was released.
        met_by: Who meets it first, and is to act.
        means: What happened, in a sentence.
        to_do: What helps, in a sentence.
    """

    word: str
    met_by: str
    means: str
    to_do: str


_SETTINGS = (
    Reason(
        "wrong-setting",
        OPERATOR,
        "A value is not among those that the setting takes, or two settings exclude each other.",
        "The message names the setting, where its value came from and what would be right.",
    ),
    Reason(
        "unknown-setting",
        OPERATOR,
        "A table, a key or a `HEADWATER_` variable has the name of no setting.",
        "Take the name that the message suggests, or one of [settings.md](settings.md).",
    ),
    Reason(
        "settings-unreadable",
        OPERATOR,
        "The file that `--config` or `HEADWATER_CONFIG` names is missing or no TOML.",
        "Correct the path, or the line that the message names.",
    ),
    Reason(
        "impossible-plan",
        OPERATOR,
        "The settings of a round contradict each other, as `min_reports` above `goal_count` does.",
        "Change the setting that the message names; nothing was started.",
    ),
    Reason(
        "port-in-use",
        OPERATOR,
        "Another process listens there, or the host is no address of this machine.",
        "Give another `--port` (0 picks a free one) or another `--host`.",
    ),
    Reason(
        "malformed-selector-id",
        OPERATOR,
        "A selector's id cannot be the name of a folder: `../x`, capitals, `history`.",
        "Give `--selector-id` up to 63 characters of `a-z0-9._-`, a letter or digit first.",
    ),
    Reason(
        "shared-directory-unusable",
        OPERATOR,
        "The shared directory is missing, empty, somebody else's, or its files do not match.",
        "Correct `--shared-data`, or lay it out with `headwater init`.",
    ),
    Reason(
        "state-in-use",
        OPERATOR,
        "Another process of the same client runs; two would train and report in one's place.",
        "End the other one, or give this one a `--client-id` or a `--state` of its own.",
    ),
    Reason(
        "spool-in-use",
        OPERATOR,
        "Another process of the same selector runs and has its spool.",
        "End the other one, or give this one a `--selector-id` of its own.",
    ),
    Reason(
        "state-unusable",
        OPERATOR,
        "The folder in which a client keeps its state cannot be made, written or locked.",
        "Give another `--state`; without one given, the client goes on and keeps nothing.",
    ),
    Reason(
        "already-initialised",
        OPERATOR,
        "`headwater init` was given a directory that has been laid out.",
        "Use it as it is; `--force` starts again from new weights.",
    ),
    Reason(
        "not-a-model",
        OPERATOR,
        "The file of `--model` holds no whole Keras model.",
        "Save it with `model.save('model.h5')`; for bare arrays give `--arrays`.",
    ),
    Reason(
        "unusable-arrays",
        OPERATOR,
        "The file of `--arrays` is no `.npz` of numbers, or two of its arrays share a name.",
        "Make it with `numpy.savez`, without Python objects.",
    ),
    Reason(
        "checkpoint-missing",
        OPERATOR,
        "There is no checkpoint of that round, or none at all yet.",
        "`headwater checkpoint list` says which there are.",
    ),
    Reason(
        "model-missing",
        OPERATOR,
        "The federation was laid out from arrays, and this needs a Keras model.",
        "Export `npz`, or give clients a `--trainer` of their own.",
    ),
    Reason(
        "round-unknown",
        OPERATOR,
        "The coordinator does not remember that round.",
        "`headwater session show` says which it remembers.",
    ),
    Reason(
        "session-running",
        OPERATOR,
        "A session is to start while one runs.",
        "Wait for its end, or end it with `headwater session stop`.",
    ),
    Reason(
        "no-session",
        OPERATOR,
        "A session is to stop and none runs.",
        "Nothing.",
    ),
    Reason(
        "tensorflow-missing",
        OPERATOR,
        "`--data` or the demo needs Keras, and it or TensorFlow is not installed.",
        "`pip install 'headwater[client]'`, or `'headwater[client-cpu]'` without a GPU.",
    ),
    Reason(
        "trainer-import-failed",
        OPERATOR,
        "The module of `--trainer` cannot be imported, or its factory raised or made no trainer.",
        "The message has what was raised; run the module by itself.",
    ),
    Reason(
        "unusable-data",
        OPERATOR,
        "The file of `--data` has no `x` and `y` of numbers, one each an example.",
        "Make it with `numpy.savez(path, x=x, y=y)`.",
    ),
    Reason(
        "unusable-model",
        OPERATOR,
        "Keras cannot load the federation's model, for instance for a Lambda layer in it.",
        "The message says why; change the model and `headwater init --force`.",
    ),
    Reason(
        "unregistered-class",
        OPERATOR,
        "The model has a layer class that Keras does not know.",
        "Give a `--trainer` from a module that registers it.",
    ),
    Reason(
        "unsupported-model",
        OPERATOR,
        "The model has several inputs or outputs, which the built-in trainer does not take.",
        "Give a `--trainer` of your own.",
    ),
    Reason(
        "process-failed",
        OPERATOR,
        "A process of `headwater demo` ended by itself.",
        "The end of its log is shown; the whole of it is in the folder `logs`.",
    ),
    Reason(
        "interrupted",
        OPERATOR,
        "`headwater demo` was told to stop before its rounds were done.",
        "Nothing; its checkpoint is that of the last committed round.",
    ),
    Reason(
        "session-unknown",
        CLIENT,
        "The selectors have not seen the end of the session whose result a client asks for, and "
        "another session ran since.",
        "`headwater client --fetch-final FILE` without data and trainer fetches what is current.",
    ),
    Reason(
        "result-not-there",
        CLIENT,
        "No selector that hears its coordinator had the result of the session for five minutes.",
        "See in the client's log what it met last; start it again when they are back.",
    ),
    Reason(
        "clients-ended",
        OPERATOR,
        "All clients of a `LocalFederation` ended before its rounds were done.",
        "See in the log why; most often a trainer raised three times in a row.",
    ),
)

_FILES = (
    Reason(
        "disk-full",
        OPERATOR,
        "The disk of the shared directory, or a quota on it, is full.",
        "Make room; the round was abandoned and the current checkpoint is whole.",
    ),
    Reason(
        "spool-full",
        OPERATOR,
        "A selector's spool holds `spool_bytes_max` bytes; the report goes to another selector.",
        "Raise it above the reports of a round times the model's size, or start more selectors.",
    ),
    Reason(
        "spool-damaged",
        OPERATOR,
        "An accepted update in a selector's spool is not what was written; it was left out.",
        "Look at that disk; the client may report again through another selector.",
    ),
    Reason(
        "read-only",
        OPERATOR,
        "The file system is mounted read-only.",
        "Mount it for writing.",
    ),
    Reason(
        "permission-denied",
        OPERATOR,
        "The process may not read or write the file.",
        "Give its user the rights on the shared directory.",
    ),
    Reason(
        "file-missing",
        OPERATOR,
        "A file is not there, or not visible on this machine.",
        "Correct the path; all servers must see the same shared directory.",
    ),
    Reason(
        "io-error",
        OPERATOR,
        "The system failed to read or write for another cause, which the message names.",
        "Look after the disk or the network mount.",
    ),
    Reason(
        "store-error",
        OPERATOR,
        "The shared directory or a file in it cannot be used.",
        "The message says which and why.",
    ),
    Reason(
        "file-unreadable",
        OPERATOR,
        "It is no regular file, or the HDF5 library cannot read it: it is damaged.",
        "Put the file in place again; a past checkpoint is in `history`.",
    ),
    Reason(
        "not-hdf5",
        OPERATOR,
        "The file is not HDF5, or its name does not end as Keras needs it.",
        "Save the model with `model.save('model.h5')`.",
    ),
    Reason(
        "hdf5-forbidden-link",
        OPERATOR,
        "The file points out of itself, by an external or soft link or a virtual dataset.",
        "Save it anew from Keras; do not trust who sent it.",
    ),
    Reason(
        "hdf5-forbidden-type",
        OPERATOR,
        "The file holds something other than plain numbers, such as object references.",
        "Save it anew from Keras.",
    ),
    Reason(
        "hdf5-forbidden-filter",
        OPERATOR,
        "A dataset needs a filter that is not on the short list.",
        "Save it without compression, or with gzip.",
    ),
    Reason(
        "hdf5-too-large",
        OPERATOR,
        "The file declares more bytes, objects or attributes than are taken.",
        "Make the model smaller; a small file that declares gigabytes is an attack.",
    ),
    Reason(
        "layout-mismatch",
        OPERATOR,
        "The checkpoint and the model that gives its layout have other tensors.",
        "Start again with `headwater init --force`.",
    ),
    Reason(
        "journal-damaged",
        OPERATOR,
        "The coordinator's journal could not be read at its start: the running round is abandoned.",
        "Look at the disk; the file was set aside, and numbering goes on after what is known.",
    ),
    Reason(
        "epoch-unreadable",
        OPERATOR,
        "The file that counts the coordinator's starts holds no number.",
        "Restore `coordinator/epoch`, or write a number above every one that was in it.",
    ),
    Reason(
        "token-key-unreadable",
        OPERATOR,
        "The file with the key that signs session tokens does not hold one.",
        "Delete `coordinator/token_key`: a new one is made, and clients in training train anew.",
    ),
    Reason(
        "coordinator-running",
        OPERATOR,
        "Another coordinator works on this shared directory.",
        "Stop it first, or give this one a directory of its own.",
    ),
    Reason(
        "coordinator-superseded",
        OPERATOR,
        "A newer coordinator took over the directory; this one may not commit any more.",
        "Run one coordinator a directory; selectors that were told wait for the newer one.",
    ),
    Reason(
        "malformed-manifest",
        OPERATOR,
        "A round's manifest cannot be written as JSON, or read.",
        "Restore the file in `history`, or remove that round's folder.",
    ),
    Reason(
        "outbox-damaged",
        OPERATOR,
        "The file with the updates for webservers cannot be read; it was set aside as `.damaged`.",
        "Nothing: rounds go on, and what the journal knows is told again. Look at the disk.",
    ),
    Reason(
        "outbox-full",
        OPERATOR,
        "Updates that a webserver did not take for long were dropped, the oldest first.",
        "Start the webserver, or take it out of `webservers`; see docs/status-updates.md.",
    ),
    Reason(
        "round-exists",
        OPERATOR,
        "History has this round already: another coordinator works in the same directory.",
        "Run one coordinator a directory.",
    ),
)

_UPDATES = (
    Reason(
        "weight-not-positive",
        CLIENT,
        "The report's number of examples is 0 or negative.",
        "Return how many examples were trained on, at least 1.",
    ),
    Reason(
        "weight-too-large",
        CLIENT,
        "The report's number of examples is above the plan's `weight_max`.",
        "Return the true number; the operator can raise `weight_max`.",
    ),
    Reason(
        "missing-tensor",
        CLIENT,
        "A tensor of the model is not in the report.",
        "Return every tensor that was given, under its name.",
    ),
    Reason(
        "extra-tensor",
        CLIENT,
        "The report has a tensor that the model has not.",
        "Return only the tensors that were given.",
    ),
    Reason(
        "wrong-shape",
        CLIENT,
        "A tensor has another shape than the model's.",
        "Train the federation's own model; do not reshape.",
    ),
    Reason(
        "wrong-dtype",
        CLIENT,
        "A tensor has another dtype than the model's.",
        "Cast it back before it is returned, e.g. to `float32`.",
    ),
    Reason(
        "not-finite",
        CLIENT,
        "A tensor holds NaN or infinity.",
        "Training diverged: lower the learning rate, or look at the data.",
    ),
    Reason(
        "too-large",
        CLIENT,
        "An entry is so large that the sum could overflow.",
        "Training diverged: lower the learning rate.",
    ),
    Reason(
        "norm-too-large",
        CLIENT,
        "The update is further from the global weights than `update_norm_max`.",
        "Train less or slower; the operator can raise the limit.",
    ),
    Reason(
        "malformed-tensors",
        CLIENT,
        "The bytes are not tensors in the safetensors layout, or a name is not allowed.",
        "Encode as the contract says; every offset, dtype and size is checked.",
    ),
    Reason(
        "fold-failed",
        OPERATOR,
        "The selector failed while it added a report, so that its sum is not used.",
        "It is a fault of ours: see the selector's log and report it.",
    ),
    Reason(
        "rejected",
        CLIENT,
        "The update failed screening.",
        "The detail says which rule.",
    ),
    Reason(
        "late",
        CLIENT,
        "The report was not complete, or not folded, when reporting closed.",
        "Come back; the operator can raise `report_window_s`.",
    ),
)

_TRANSFERS = (
    Reason(
        "truncated",
        CLIENT,
        "The stream ended before all declared bytes and the end frame.",
        "Send again: the claim is unspent.",
    ),
    Reason(
        "wrong-digest",
        CLIENT,
        "The bytes do not have the SHA-256 that was declared.",
        "Send again from the start; if it repeats, look for what changes the bytes on the way.",
    ),
    Reason(
        "wrong-chunk-count",
        CLIENT,
        "The end frame counts other data frames than came.",
        "Count every data frame, over resumes too.",
    ),
    Reason(
        "chunk-out-of-order",
        CLIENT,
        "A chunk's offset is not where the one before ended.",
        "Send chunks in order, without holes.",
    ),
    Reason(
        "empty-chunk",
        CLIENT,
        "A chunk has no bytes.",
        "Leave it out.",
    ),
    Reason(
        "more-bytes-than-declared",
        CLIENT,
        "More bytes came than the declared size.",
        "Declare the size of what is sent.",
    ),
    Reason(
        "offset-out-of-range",
        PEER,
        "Bytes are asked for from beyond the end.",
        "Resume from what has arrived.",
    ),
    Reason(
        "wrong-offset",
        CLIENT,
        "The start frame or the fetch does not go on where the other side is.",
        "Ask for a permission, which says the offset, and begin there.",
    ),
    Reason(
        "update-too-large",
        CLIENT,
        "The declared size is 0 or above what an update of this model can have.",
        "Report the federation's own model; nothing was received.",
    ),
    Reason(
        "no-start",
        CLIENT,
        "The report's first frame is no start frame.",
        "Begin with `start`.",
    ),
    Reason(
        "no-data",
        CLIENT,
        "Something other than data frames and the end frame followed.",
        "Send `data` frames, then `end`.",
    ),
    Reason(
        "stalled",
        CLIENT,
        "No byte came for `report_stall_s`, and the place was given on.",
        "Ask for a permission again and resume.",
    ),
    Reason(
        "no-permission",
        CLIENT,
        "A report was sent without `BeginReport`.",
        "Ask first; the permission says where to begin.",
    ),
    Reason(
        "unknown-token",
        CLIENT,
        "Nobody's claim has this session token: it is of another selector, process or round.",
        "Check in again; the stream gives the token that counts.",
    ),
    Reason(
        "claim-not-here",
        CLIENT,
        "The token is genuine, but its claim is with another selector, or of a round that is over.",
        "Check in again; the stream says whether the claim still stands, and the token goes on.",
    ),
    Reason(
        "foreign-token",
        CLIENT,
        "The session token is another client's.",
        "Give each client the token of its own stream; the other's claim is untouched.",
    ),
    Reason(
        "unknown-artifact",
        CLIENT,
        "The selector has no artifact of this digest, any more or at all.",
        "Check in again and fetch what is offered there.",
    ),
    Reason(
        "artifact-refused",
        CLIENT,
        "The selector offers an artifact of absurd size or without a digest.",
        "Look at the federation's model; the client fetched nothing.",
    ),
    Reason(
        "transfer-failed",
        PEER,
        "Bytes that arrived are not those that were declared.",
        "Send again.",
    ),
)

_CHECK_INS = (
    Reason(
        "goal-reached",
        CLIENT,
        "The round has as many clients as it admits.",
        "Come back within the retry window.",
    ),
    Reason(
        "full",
        CLIENT,
        "The selector holds as many clients as it may, or the federation does.",
        "Come back, or try another selector; the operator can raise `held_max`.",
    ),
    Reason(
        "claimed-elsewhere",
        CLIENT,
        "Another selector has this client's claim on the round.",
        "Come back there, or within the retry window.",
    ),
    Reason(
        "session-over",
        CLIENT,
        "The session has ended.",
        "Nothing; a client with `--rounds` exits 0, others come back.",
    ),
    Reason(
        "session-stopped",
        CLIENT,
        "The operator ended the session, and with it the round.",
        "Come back for the next session.",
    ),
    Reason(
        "draining",
        CLIENT,
        "The server was told to stop.",
        "Come back, or try another selector.",
    ),
    Reason(
        "superseded",
        PEER,
        "A newer stream of the same client, or a newer process of the same selector id, took over.",
        "Give each client and each selector an id of its own.",
    ),
    Reason(
        "reporting-closed",
        CLIENT,
        "The round's reporting ended before this report.",
        "Come back for the next round.",
    ),
    Reason(
        "round-over",
        CLIENT,
        "The round has completed.",
        "Come back for the next one.",
    ),
    Reason(
        "selector-failed",
        CLIENT,
        "The selector cannot serve the round, for a cause that its log names.",
        "Try another selector.",
    ),
    Reason(
        "not-attached",
        CLIENT,
        "The selector does not hear from the coordinator, so that nothing it says would count.",
        "Ask again, or try another selector; operators look at the network.",
    ),
    Reason(
        "malformed-client-id",
        CLIENT,
        "The client's id is empty, too long or has characters that are not allowed.",
        "Take 1 to 128 characters of `A-Za-z0-9._:@-`, a letter or digit first.",
    ),
    Reason(
        "malformed-session-id",
        CLIENT,
        "The session id that a client shows is too long to be one.",
        "Show what `declined` or `configured` gave, or nothing.",
    ),
    Reason(
        "protocol-mismatch",
        PEER,
        "The other side speaks another version of the contract.",
        "Install the same release on both sides.",
    ),
)

_ROUNDS = (
    Reason(
        "too-few-clients",
        OPERATOR,
        "Fewer than `min_reports` clients were there when Selection ended: round abandoned.",
        "Start more clients, lower `min_reports`, or raise `selection_timeout_s`.",
    ),
    Reason(
        "too-few-reports",
        OPERATOR,
        "Fewer than `min_reports` reports can still come: the round was abandoned.",
        "`headwater session show --round N` says what became of each client.",
    ),
    Reason(
        "commit-timeout",
        OPERATOR,
        "The checkpoint was not written within `commit_timeout_s`: the round was abandoned.",
        "Look at the shared disk's speed, or raise the limit.",
    ),
    Reason(
        "commit-dropped",
        OPERATOR,
        "The checkpoint was finished after its round had been abandoned, and was deleted.",
        "See the round's own reason.",
    ),
    Reason(
        "base-replaced",
        OPERATOR,
        "The current checkpoint was replaced during a round: what was trained belongs to none.",
        "Stop the coordinator before `headwater init --force`.",
    ),
    Reason(
        "client-lost",
        OPERATOR,
        "The client's stream ended, and it did not come back within `return_s`.",
        "Nothing: it may take part in the next round.",
    ),
    Reason(
        "selector-lost",
        OPERATOR,
        "The selector was not heard of for `return_s`; what it had folded does not count.",
        "See its log; its clients may report through another selector.",
    ),
    Reason(
        "selector-detached",
        OPERATOR,
        "The selector was told to stop before it had handed in its sum.",
        "Stop selectors between rounds.",
    ),
    Reason(
        "selector-restarted",
        OPERATOR,
        "A new process of the selector came; what the old one had folded does not count.",
        "See the old one's log for why it ended.",
    ),
    Reason(
        "unknown-round",
        SELECTOR,
        "A selector came back with a round that does not run any more.",
        "Nothing: it forgets that round.",
    ),
    Reason(
        "checkpoint-differs",
        SELECTOR,
        "The checkpoint in the shared directory is not the one that the round starts from.",
        "Give all servers the same directory; NFS caches may lag.",
    ),
    Reason(
        "not-in-partial",
        OPERATOR,
        "The selector had folded the report and left it out of its sum.",
        "The client may report again through another selector.",
    ),
    Reason(
        "stale",
        SELECTOR,
        "A partial of another round was handed in.",
        "Nothing: it is never averaged.",
    ),
    Reason(
        "stale-partial",
        SELECTOR,
        "The partial in the shared directory is not the one that the selector told of.",
        "Give all servers the same directory; NFS caches may lag.",
    ),
    Reason(
        "repeated",
        SELECTOR,
        "A second, different report of a client, or partial of a selector, came in one round.",
        "Nothing: the first one counts.",
    ),
    Reason(
        "foreign-partial",
        SELECTOR,
        "A partial lists clients that are not the selector's own, or its numbers disagree.",
        "Nothing: it is never averaged; report it with both logs.",
    ),
    Reason(
        "malformed-partial",
        SELECTOR,
        "The file is no partial, or a damaged one.",
        "Look at the shared disk; nobody else may write into a selector's folder.",
    ),
    Reason(
        "partial-late",
        SELECTOR,
        "The selector's partial was not there within `grace_s` of Close.",
        "Look at the shared disk's speed, or raise `grace_s`.",
    ),
    Reason(
        "partial-changed",
        OPERATOR,
        "The partial's bytes are not those that the selector wrote.",
        "Nobody else may write into the selectors' folders.",
    ),
    Reason(
        "trainer-failed",
        CLIENT,
        "The trainer raised, or returned what cannot be reported.",
        "See the client's log; three in a row end the client with status 1.",
    ),
    Reason(
        "training-stopped",
        CLIENT,
        "The trainer ended since the round went on without it, or the client was told to stop.",
        "Nothing.",
    ),
    Reason(
        "client-stopped",
        CLIENT,
        "The client was told to stop, and bowed out of its round.",
        "Nothing.",
    ),
    Reason(
        "not-given",
        CLIENT,
        "A client bowed out, and its reason is no reason word.",
        "Other clients than ours may give any word of `a-z0-9-`.",
    ),
    Reason(
        "wrong-weights",
        CLIENT,
        "Weights do not belong to the Keras model, matched by layer and variable names.",
        "Give every client the federation's model.",
    ),
)

_CONNECTIONS = (
    Reason(
        "unavailable",
        PEER,
        "Nobody answers at that address.",
        "Start the server, or correct HOST:PORT.",
    ),
    Reason(
        "deadline-exceeded",
        PEER,
        "No answer came in time.",
        "Try again; see the server's log.",
    ),
    Reason(
        "unimplemented",
        PEER,
        "The address is another service's, or another release's.",
        "Correct HOST:PORT: a client dials selectors, a selector dials the coordinator.",
    ),
    Reason(
        "unknown",
        PEER,
        "The call failed without one of our words.",
        "The message has what was said.",
    ),
    Reason(
        "malformed-hello",
        SELECTOR,
        "The first message of a selector makes no sense.",
        "Install the same release on both sides.",
    ),
    Reason(
        "malformed-seconds",
        PEER,
        "A span of time is negative or no number.",
        "Install the same release on both sides.",
    ),
    Reason(
        "malformed-hyperparameters",
        CLIENT,
        "The round's hyperparameters are impossible.",
        "Install the same release on both sides.",
    ),
    Reason(
        "malformed-limits",
        SELECTOR,
        "The round's limit on norms is no number above 0.",
        "Install the same release on both sides.",
    ),
    Reason(
        "no-hello",
        SELECTOR,
        "A selector's stream did not begin with `hello`, or not in time.",
        "Install the same release on both sides.",
    ),
    Reason(
        "no-welcome",
        SELECTOR,
        "A coordinator's stream did not begin with `welcome`.",
        "Correct `--coordinator`; the selector dials again.",
    ),
    Reason(
        "behind",
        SELECTOR,
        "Too many events wait for the coordinator; the selector attaches anew and says all again.",
        "Look at the coordinator's load.",
    ),
    Reason(
        "internal-error",
        PEER,
        "A fault of ours; the peer sees nothing more of it.",
        "See the server's log, and report it.",
    ),
    Reason(
        "peer-error",
        PEER,
        "The other side sent something that breaks the contract.",
        "The message says what.",
    ),
    Reason(
        "federation-error",
        PEER,
        "Something else went wrong.",
        "The message says what.",
    ),
)

_WEBSERVER = (
    Reason(
        "webserver-missing",
        OPERATOR,
        "The webserver's libraries are not installed.",
        "`pip install 'headwater[webserver]'`.",
    ),
    Reason(
        "database-in-use",
        OPERATOR,
        "Another webserver runs on the same database.",
        "End the other one, or give this one a `--database` of its own.",
    ),
    Reason(
        "database-unusable",
        OPERATOR,
        "The file of `--database` is damaged, another program's or a newer release's, or cannot be "
        "made.",
        "Give another `--database`, or move that file away; history begins anew then.",
    ),
    Reason(
        "database-unavailable",
        PEER,
        "The webserver cannot read or write its database now, as on a full disk.",
        "Whoever sent an update sends it again by itself; the server's log has the disk's words.",
    ),
    Reason(
        "update-refused",
        OPERATOR,
        "A webserver answered a status update with 400, 413 or 422: it was left out.",
        "Look at the webserver's words in the coordinator's log; both are to be of one release.",
    ),
    Reason(
        "malformed-update",
        PEER,
        "What was sent to the webserver is no status update.",
        "The answer names the first field that is wrong; see docs/status-updates.md.",
    ),
    Reason(
        "signature-needed",
        PEER,
        "The webserver takes signed updates only, and this one has no signature.",
        "Give the coordinator the same secret as the webserver.",
    ),
    Reason(
        "wrong-signature",
        PEER,
        "An update was signed with another secret, or changed on its way.",
        "Give coordinator and webserver the same secret.",
    ),
    Reason(
        "body-too-large",
        PEER,
        "A status update has more than 32 MiB.",
        "Nothing: no coordinator of ours sends one.",
    ),
    Reason(
        "too-slow",
        PEER,
        "A status update was not whole within a minute.",
        "Look at the network; the sender tries again.",
    ),
    Reason(
        "malformed-request",
        PEER,
        "A parameter of a request to the webserver makes no sense.",
        "The answer names it; `/api/v1/openapi.json` says what is right.",
    ),
    Reason(
        "unknown-page",
        PEER,
        "The webserver has nothing at that address.",
        "`/api/v1/openapi.json` lists what there is.",
    ),
    Reason(
        "wrong-method",
        PEER,
        "What is at that address is not asked for in this way.",
        "`/api/v1/openapi.json` lists what there is.",
    ),
    Reason(
        "unknown-federation",
        PEER,
        "The webserver never heard of that federation, or has forgotten it.",
        "Leave `federation` out, or take one of the overview's `federations`.",
    ),
    Reason(
        "other-federation",
        OPERATOR,
        "The page shows another federation than that of the coordinator which it controls.",
        "Look at the webserver of that federation, or use `headwater session`.",
    ),
    Reason(
        "control-token-needed",
        OPERATOR,
        "Sessions are started and stopped here by those who have the control token.",
        "Give the token; where none is set, start the webserver with `--control-token`.",
    ),
    Reason(
        "wrong-control-token",
        OPERATOR,
        "The token that was given is not the webserver's.",
        "Ask the operator of the webserver.",
    ),
    Reason(
        "cross-site-request",
        PEER,
        "A request came from another site's page, by a name that is not this server's, or from a "
        "page that is out of date.",
        "Load the page again; behind a reverse proxy give its name with `--allowed-host`.",
    ),
    Reason(
        "coordinator-unreachable",
        OPERATOR,
        "The webserver was asked to start or stop a session, and no coordinator answers it.",
        "Start the coordinator, or correct the webserver's `--coordinator`.",
    ),
)

SECTIONS: dict[str, tuple[Reason, ...]] = {
    "Settings and commands": _SETTINGS,
    "Files and the shared directory": _FILES,
    "Reports that are not accepted": _UPDATES,
    "Bytes on their way": _TRANSFERS,
    "Check-ins": _CHECK_INS,
    "Rounds, clients' fates and selectors' partials": _ROUNDS,
    "Connections and peers": _CONNECTIONS,
    "The webserver": _WEBSERVER,
}
"""The table as people read it."""

REASONS: dict[str, Reason] = {
    reason.word: reason for section in SECTIONS.values() for reason in section
}
"""The table by word."""


def bounded(word: str) -> str:
    """Return the word as a counter's label: as it is if it is in the table, else ``other``."""
    return word if word in REASONS else OTHER
