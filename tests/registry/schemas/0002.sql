BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0002');
CREATE TABLE alias_moves (
	id INTEGER NOT NULL, 
	embedding_id INTEGER NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	from_id INTEGER, 
	to_id INTEGER, 
	at DATETIME NOT NULL, 
	actor VARCHAR(256) NOT NULL, 
	reason TEXT NOT NULL, 
	CONSTRAINT pk_alias_moves PRIMARY KEY (id), 
	CONSTRAINT fk_alias_moves_embedding_id FOREIGN KEY(embedding_id) REFERENCES embeddings (id), 
	CONSTRAINT fk_alias_moves_from_id FOREIGN KEY(from_id) REFERENCES versions (id), 
	CONSTRAINT fk_alias_moves_to_id FOREIGN KEY(to_id) REFERENCES versions (id)
);
INSERT INTO "alias_moves" VALUES(1,1,'production',NULL,1,'2026-11-22 10:43:12.552913','ada@example','registered');
INSERT INTO "alias_moves" VALUES(2,1,'staging',NULL,2,'2026-11-22 10:43:14.349282','ada@example','');
INSERT INTO "alias_moves" VALUES(3,1,'staging',2,NULL,'2026-11-22 10:43:15.048980','ada@example','');
INSERT INTO "alias_moves" VALUES(4,1,'production',1,2,'2026-11-22 10:43:23.516077','ada@example','gate passed against words@1: 1 checks, 2026-11-22 10:43:22 UTC');
CREATE TABLE aliases (
	id INTEGER NOT NULL, 
	embedding_id INTEGER NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	version_id INTEGER NOT NULL, protected BOOLEAN DEFAULT 0 NOT NULL, 
	CONSTRAINT pk_aliases PRIMARY KEY (id), 
	CONSTRAINT fk_aliases_embedding_id FOREIGN KEY(embedding_id) REFERENCES embeddings (id), 
	CONSTRAINT fk_aliases_version_id FOREIGN KEY(version_id) REFERENCES versions (id), 
	CONSTRAINT uq_aliases_name UNIQUE (embedding_id, name)
);
INSERT INTO "aliases" VALUES(1,1,'production',2,1);
CREATE TABLE artifacts (
	id INTEGER NOT NULL, 
	version_digest VARCHAR(64) NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_artifacts PRIMARY KEY (id), 
	CONSTRAINT uq_artifacts_name UNIQUE (version_digest, name)
);
INSERT INTO "artifacts" VALUES(1,'457be3d3029afa3840500947a42a279d3fc9a7f96caf3ef843a0d6535c047b4d','neighbors','c94b4c934fe87bf151ab91101ec7ebb11229080c5e8dae088b73aaad54bd7a33','2026-11-22 10:43:20.203789');
INSERT INTO "artifacts" VALUES(2,'f499b1d6be95fc877446f36a8059cd9d823021f809e3c65ef089920b40c36479','neighbors','3006e11f61121c2310caaf54643cf30ac6509e84c4fd70ff6ed3eafe91861ae6','2026-11-22 10:43:21.337181');
INSERT INTO "artifacts" VALUES(3,'f499b1d6be95fc877446f36a8059cd9d823021f809e3c65ef089920b40c36479','moments','f803aa10fad070f5ebd5b713edc1731a53f39f45589e1e952f1219e7654bcd1b','2026-11-22 10:43:24.617132');
INSERT INTO "artifacts" VALUES(4,'601685593904d0c7ab9b86605674489689397e6f5a926de27eaf9a8d2f6079be','neighbors','54f6abc0341107ca70ccdb00dd00b629a29f437e9dfc250cc4559604a5d97775','2026-11-22 10:43:25.984762');
CREATE TABLE builds (
	id INTEGER NOT NULL, 
	index_id INTEGER NOT NULL, 
	version_id INTEGER NOT NULL, 
	method VARCHAR(16) NOT NULL, 
	faiss_digest VARCHAR(64) NOT NULL, 
	ids_digest VARCHAR(64) NOT NULL, 
	nbytes INTEGER NOT NULL, 
	rows INTEGER NOT NULL, 
	trained_rows INTEGER, 
	can_add BOOLEAN NOT NULL, 
	can_remove BOOLEAN NOT NULL, 
	recall DOUBLE, 
	recall_k INTEGER NOT NULL, 
	recall_queries INTEGER NOT NULL, 
	duration_s DOUBLE NOT NULL, 
	created_at DATETIME NOT NULL, health JSON DEFAULT '{}' NOT NULL, 
	CONSTRAINT pk_builds PRIMARY KEY (id), 
	CONSTRAINT fk_builds_index_id FOREIGN KEY(index_id) REFERENCES indexes (id), 
	CONSTRAINT fk_builds_version_id FOREIGN KEY(version_id) REFERENCES versions (id)
);
INSERT INTO "builds" VALUES(1,1,1,'build','0c459727b7caec75b0c696288ccfd74463ed572235fbdece49f533d5d72f1187','384ea94eb2b8f9dd0ca7ded105231be8238f3358292a299b3e238ac861f90828',1047,12,NULL,1,1,1.0,10,12,0.0556697179999901,'2026-11-22 10:43:15.989921','{}');
INSERT INTO "builds" VALUES(2,2,2,'build','6261283420aba5438d56a6ddf03c29c9016b59f440726b9dcfdeadc13433b604','384ea94eb2b8f9dd0ca7ded105231be8238f3358292a299b3e238ac861f90828',2996,12,NULL,1,0,1.0,10,12,4.80801970006723422557e-02,'2026-11-22 10:43:17.073868','{}');
CREATE TABLE datasets (
	id INTEGER NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	items INTEGER NOT NULL, 
	source TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_datasets PRIMARY KEY (id), 
	CONSTRAINT uq_datasets_name UNIQUE (name)
);
INSERT INTO "datasets" VALUES(1,'google','analogies','184589a870fa045234a9abe10a4d8ba46b46a385010cdb93831e164d98a41328',2,'q.txt','2026-11-22 10:43:17.836676');
INSERT INTO "datasets" VALUES(2,'pairs','pairs','d73aaa15285376121a3107960ae785c2449c4c141b230cd29331cdeaf5308815',3,'pairs.tsv','2026-11-22 10:43:18.580877');
CREATE TABLE derivations (
	id INTEGER NOT NULL, 
	child_id INTEGER NOT NULL, 
	transform VARCHAR(32) NOT NULL, 
	params JSON NOT NULL, 
	target VARCHAR(256), 
	embedding_id INTEGER NOT NULL, 
	tracks VARCHAR(128) NOT NULL, 
	tracked_id INTEGER, 
	state VARCHAR(16) NOT NULL, 
	relation VARCHAR(16), 
	repair VARCHAR(16) NOT NULL, 
	reason TEXT NOT NULL, 
	CONSTRAINT pk_derivations PRIMARY KEY (id), 
	CONSTRAINT fk_derivations_child_id FOREIGN KEY(child_id) REFERENCES embeddings (id), 
	CONSTRAINT fk_derivations_embedding_id FOREIGN KEY(embedding_id) REFERENCES embeddings (id), 
	CONSTRAINT fk_derivations_tracked_id FOREIGN KEY(tracked_id) REFERENCES versions (id), 
	CONSTRAINT uq_derivations_child_id UNIQUE (child_id)
);
INSERT INTO "derivations" VALUES(1,2,'whiten','{}',NULL,1,'latest',2,'fresh','identical','none','same rows');
CREATE TABLE derived (
	version_id INTEGER NOT NULL, 
	parent_id INTEGER NOT NULL, 
	target_id INTEGER, 
	transform VARCHAR(32) NOT NULL, 
	params JSON NOT NULL, 
	fitted VARCHAR(64) NOT NULL, 
	fitted_rows INTEGER, 
	quality JSON NOT NULL, 
	CONSTRAINT pk_derived PRIMARY KEY (version_id), 
	CONSTRAINT fk_derived_parent_id FOREIGN KEY(parent_id) REFERENCES versions (id), 
	CONSTRAINT fk_derived_target_id FOREIGN KEY(target_id) REFERENCES versions (id), 
	CONSTRAINT fk_derived_version_id FOREIGN KEY(version_id) REFERENCES versions (id)
);
INSERT INTO "derived" VALUES(3,2,NULL,'whiten','{}','f47c5abd5598a92471495429e7cdb751753e86752bb9d7e4e81894d276b66b08',12,'{}');
CREATE TABLE embeddings (
	id INTEGER NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_embeddings PRIMARY KEY (id), 
	CONSTRAINT uq_embeddings_name UNIQUE (name)
);
INSERT INTO "embeddings" VALUES(1,'words','2026-11-22 10:43:12.522114');
INSERT INTO "embeddings" VALUES(2,'words/whiten','2026-11-22 10:43:24.741478');
CREATE TABLE events (
	id INTEGER NOT NULL, 
	at DATETIME NOT NULL, 
	actor VARCHAR(256) NOT NULL, 
	action VARCHAR(64) NOT NULL, 
	subject VARCHAR(256) NOT NULL, 
	embedding VARCHAR(128), 
	detail JSON NOT NULL, 
	command TEXT NOT NULL, 
	CONSTRAINT pk_events PRIMARY KEY (id)
);
INSERT INTO "events" VALUES(1,'2026-11-22 10:43:11.435099','ada@example','schema.upgraded','registry',NULL,'{"from": null, "to": "0002"}','embreg init');
INSERT INTO "events" VALUES(2,'2026-11-22 10:43:12.530842','ada@example','version.registered','words@1','words','{"digest": "457be3d3029afa3840500947a42a279d3fc9a7f96caf3ef843a0d6535c047b4d", "rows": 12, "message": "first"}','embreg register words v1.jsonl -m first --alias production --metric cosine --kind word');
INSERT INTO "events" VALUES(3,'2026-11-22 10:43:12.552970','ada@example','alias.moved','words@production','words','{"old": null, "new": 1, "reason": "registered"}','embreg register words v1.jsonl -m first --alias production --metric cosine --kind word');
INSERT INTO "events" VALUES(4,'2026-11-22 10:43:13.517621','ada@example','version.registered','words@2','words','{"digest": "f499b1d6be95fc877446f36a8059cd9d823021f809e3c65ef089920b40c36479", "rows": 12, "message": "second"}','embreg register words v2.jsonl -m second');
INSERT INTO "events" VALUES(5,'2026-11-22 10:43:14.349375','ada@example','alias.moved','words@staging','words','{"old": null, "new": 2, "reason": ""}','embreg alias set words staging words@2');
INSERT INTO "events" VALUES(6,'2026-11-22 10:43:15.049079','ada@example','alias.removed','words@staging','words','{"old": 2, "new": null, "reason": ""}','embreg alias rm words staging');
INSERT INTO "events" VALUES(7,'2026-11-22 10:43:15.993795','ada@example','index.built','words-flat','words','{"version": 1, "method": "build", "recall": 1.0, "note": ""}','embreg index build words-flat words@1 --factory Flat');
INSERT INTO "events" VALUES(8,'2026-11-22 10:43:17.075998','ada@example','index.built','words-hnsw','words','{"version": 2, "method": "build", "recall": 1.0, "note": ""}','embreg index build words-hnsw words@2 --factory HNSW16 --track production');
INSERT INTO "events" VALUES(9,'2026-11-22 10:43:17.836691','ada@example','dataset.added','google',NULL,'{"kind": "analogies", "digest": "184589a870fa045234a9abe10a4d8ba46b46a385010cdb93831e164d98a41328"}','embreg dataset add google q.txt --kind analogies');
INSERT INTO "events" VALUES(10,'2026-11-22 10:43:18.580893','ada@example','dataset.added','pairs',NULL,'{"kind": "pairs", "digest": "d73aaa15285376121a3107960ae785c2449c4c141b230cd29331cdeaf5308815"}','embreg dataset add pairs pairs.tsv --kind pairs');
INSERT INTO "events" VALUES(11,'2026-11-22 10:43:19.498295','ada@example','run.recorded','words@1','words','{"suite": "analogies", "status": "done", "baseline": null, "dataset": "google"}','embreg eval words@1 --suite analogies --suite similarity --suite hubness');
INSERT INTO "events" VALUES(12,'2026-11-22 10:43:20.195339','ada@example','run.recorded','words@1','words','{"suite": "similarity", "status": "done", "baseline": null, "dataset": "pairs"}','embreg eval words@1 --suite analogies --suite similarity --suite hubness');
INSERT INTO "events" VALUES(13,'2026-11-22 10:43:20.210076','ada@example','run.recorded','words@1','words','{"suite": "hubness", "status": "done", "baseline": null, "dataset": null}','embreg eval words@1 --suite analogies --suite similarity --suite hubness');
INSERT INTO "events" VALUES(14,'2026-11-22 10:43:21.369317','ada@example','run.recorded','words@2','words','{"suite": "drift", "status": "done", "baseline": "words@1", "dataset": null}','embreg drift words@1 words@2');
INSERT INTO "events" VALUES(15,'2026-11-22 10:43:22.388111','ada@example','gate.passed','words@2','words','{"baseline": "words@1"}','embreg gate words@2 --baseline words@1 --config embreg.toml');
INSERT INTO "events" VALUES(16,'2026-11-22 10:43:23.516171','ada@example','alias.moved','words@production','words','{"old": 1, "new": 2, "reason": "gate passed against words@1: 1 checks, 2026-11-22 10:43:22 UTC"}','embreg promote words@2 production');
INSERT INTO "events" VALUES(17,'2026-11-22 10:43:23.522919','ada@example','index.fresh','words-hnsw','words','{"repair": "none", "reason": "same rows"}','embreg promote words@2 production');
INSERT INTO "events" VALUES(18,'2026-11-22 10:43:24.745239','ada@example','version.registered','words/whiten@1','words/whiten','{"digest": "601685593904d0c7ab9b86605674489689397e6f5a926de27eaf9a8d2f6079be", "rows": 12, "message": ""}','embreg derive words@2 --transform whiten');
INSERT INTO "events" VALUES(19,'2026-11-22 10:43:24.755708','ada@example','version.derived','words/whiten@1','words/whiten','{"parent": "words@2", "transform": "whiten", "fitted": "f47c5abd5598a92471495429e7cdb751753e86752bb9d7e4e81894d276b66b08"}','embreg derive words@2 --transform whiten');
INSERT INTO "events" VALUES(20,'2026-11-22 10:43:26.130427','ada@example','run.recorded','words/whiten@1','words/whiten','{"suite": "hubness", "status": "done", "baseline": null, "dataset": null}','embreg eval words/whiten --suite hubness');
INSERT INTO "events" VALUES(21,'2026-11-22 10:43:27.121819','ada@example','external.added','faq','words','{"tracks": "words@production", "built_from": "words@2"}','embreg dependent add faq --tracks words@production --command make reindex --note ask Ada');
INSERT INTO "events" VALUES(22,'2026-11-22 10:43:28.150012','ada@example','version.registered','words@3','words','{"digest": "21f7d715d2735716ac9c789dbdda3825f8d9706080314d9fd39113887722de85", "rows": 10, "message": ""}','embreg register words v3.jsonl');
INSERT INTO "events" VALUES(23,'2026-11-22 10:43:28.160153','ada@example','derived.stale','words/whiten','words','{"repair": "rebuild", "reason": "2 rows removed, 1 rows changed of 12 (25%)"}','embreg register words v3.jsonl');
INSERT INTO "events" VALUES(24,'2026-11-22 10:43:29.030193','ada@example','version.deleted','words@3','words','{"digest": "21f7d715d2735716ac9c789dbdda3825f8d9706080314d9fd39113887722de85"}','embreg delete words@3');
INSERT INTO "events" VALUES(25,'2026-11-22 10:43:29.039718','ada@example','derived.fresh','words/whiten','words','{"repair": "none", "reason": "same rows"}','embreg delete words@3');
INSERT INTO "events" VALUES(26,'2026-11-22 10:43:29.683527','ada@example','alias.protected','words@production','words','{}','embreg alias protect words production');
CREATE TABLE externals (
	id INTEGER NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	command TEXT NOT NULL, 
	note TEXT NOT NULL, 
	basis_id INTEGER NOT NULL, 
	done_at DATETIME NOT NULL, 
	embedding_id INTEGER NOT NULL, 
	tracks VARCHAR(128) NOT NULL, 
	tracked_id INTEGER, 
	state VARCHAR(16) NOT NULL, 
	relation VARCHAR(16), 
	repair VARCHAR(16) NOT NULL, 
	reason TEXT NOT NULL, 
	CONSTRAINT pk_externals PRIMARY KEY (id), 
	CONSTRAINT fk_externals_basis_id FOREIGN KEY(basis_id) REFERENCES versions (id), 
	CONSTRAINT fk_externals_embedding_id FOREIGN KEY(embedding_id) REFERENCES embeddings (id), 
	CONSTRAINT fk_externals_tracked_id FOREIGN KEY(tracked_id) REFERENCES versions (id), 
	CONSTRAINT uq_externals_name UNIQUE (name)
);
INSERT INTO "externals" VALUES(1,'faq','make reindex','ask Ada',2,'2026-11-22 10:43:27.120309',1,'production',2,'fresh','identical','none','same rows');
CREATE TABLE indexes (
	id INTEGER NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	embedding_id INTEGER NOT NULL, 
	tracks VARCHAR(128) NOT NULL, 
	factory TEXT NOT NULL, 
	search TEXT NOT NULL, 
	metric VARCHAR(16) NOT NULL, 
	tracked_id INTEGER, 
	state VARCHAR(16) NOT NULL, 
	relation VARCHAR(16), 
	repair VARCHAR(16) NOT NULL, 
	reason TEXT NOT NULL, 
	CONSTRAINT pk_indexes PRIMARY KEY (id), 
	CONSTRAINT fk_indexes_embedding_id FOREIGN KEY(embedding_id) REFERENCES embeddings (id), 
	CONSTRAINT fk_indexes_tracked_id FOREIGN KEY(tracked_id) REFERENCES versions (id), 
	CONSTRAINT uq_indexes_name UNIQUE (name)
);
INSERT INTO "indexes" VALUES(1,'words-flat',1,'latest','Flat','','cosine',2,'stale','changed','update','1 rows changed of 12');
INSERT INTO "indexes" VALUES(2,'words-hnsw',1,'production','HNSW16','','cosine',2,'fresh','identical','none','same rows');
CREATE TABLE measures (
	id INTEGER NOT NULL, 
	run_id INTEGER NOT NULL, 
	metric VARCHAR(128) NOT NULL, 
	labels JSON NOT NULL, 
	value DOUBLE NOT NULL, 
	n INTEGER NOT NULL, 
	low DOUBLE, 
	high DOUBLE, 
	CONSTRAINT pk_measures PRIMARY KEY (id), 
	CONSTRAINT fk_measures_run_id FOREIGN KEY(run_id) REFERENCES runs (id)
);
INSERT INTO "measures" VALUES(1,1,'coverage','{"group": "total"}',1.0,2,NULL,NULL);
INSERT INTO "measures" VALUES(2,1,'coverage','{"group": "semantic"}',1.0,2,NULL,NULL);
INSERT INTO "measures" VALUES(3,1,'coverage','{"section": "family"}',1.0,1,NULL,NULL);
INSERT INTO "measures" VALUES(4,1,'coverage','{"section": "capital"}',1.0,1,NULL,NULL);
INSERT INTO "measures" VALUES(5,1,'accuracy','{"group": "total"}',0.0,2,0.0,0.0);
INSERT INTO "measures" VALUES(6,1,'accuracy','{"group": "semantic"}',0.0,2,0.0,0.0);
INSERT INTO "measures" VALUES(7,1,'accuracy','{"section": "family"}',0.0,1,0.0,0.0);
INSERT INTO "measures" VALUES(8,1,'accuracy','{"section": "capital"}',0.0,1,0.0,0.0);
INSERT INTO "measures" VALUES(9,1,'accuracy','{"band": "1-1000"}',0.0,2,0.0,0.0);
INSERT INTO "measures" VALUES(10,1,'accuracy@5','{"group": "total"}',0.0,2,0.0,0.0);
INSERT INTO "measures" VALUES(11,1,'mrr@5','{"group": "total"}',0.0,2,0.0,0.0);
INSERT INTO "measures" VALUES(12,2,'coverage','{}',1.0,3,NULL,NULL);
INSERT INTO "measures" VALUES(13,2,'spearman','{}',-1.0,3,-1.0,1.0);
INSERT INTO "measures" VALUES(14,2,'pearson','{}',-8.77611248869808679984e-01,3,-1.0,1.0);
INSERT INTO "measures" VALUES(15,3,'skewness','{}',-1.76776695296636865428e+00,12,NULL,NULL);
INSERT INTO "measures" VALUES(16,3,'robin_hood','{}',0.05,12,NULL,NULL);
INSERT INTO "measures" VALUES(17,3,'gini','{}',6.66666666666666518636e-02,12,NULL,NULL);
INSERT INTO "measures" VALUES(18,3,'antihub_rate','{}',0.0,12,0.0,2.42494006655240845748e-01);
INSERT INTO "measures" VALUES(19,3,'hub_occurrence','{}',0.0,12,NULL,NULL);
INSERT INTO "measures" VALUES(20,3,'max_occurrence','{}',11.0,12,NULL,NULL);
INSERT INTO "measures" VALUES(21,4,'shared_share','{"of": "baseline"}',1.0,12,NULL,NULL);
INSERT INTO "measures" VALUES(22,4,'shared_share','{"of": "candidate"}',1.0,12,NULL,NULL);
INSERT INTO "measures" VALUES(23,4,'added','{}',0.0,12,NULL,NULL);
INSERT INTO "measures" VALUES(24,4,'removed','{}',0.0,12,NULL,NULL);
INSERT INTO "measures" VALUES(25,4,'semantic_displacement','{}',6.47083553910645660998e-04,12,NULL,NULL);
INSERT INTO "measures" VALUES(26,4,'raw_cosine','{}',9.9912025883308042129e-01,12,NULL,NULL);
INSERT INTO "measures" VALUES(27,4,'procrustes_residual','{}',3.99712412316288734359e-04,12,NULL,NULL);
INSERT INTO "measures" VALUES(28,4,'cka','{}',9.98653127335361601168e-01,12,NULL,NULL);
INSERT INTO "measures" VALUES(29,4,'norm_shift','{}',-2.94093604895218074801e-03,12,NULL,NULL);
INSERT INTO "measures" VALUES(30,4,'centroid_shift','{}',0.00886227223766864,12,NULL,NULL);
INSERT INTO "measures" VALUES(31,4,'mean_cosine_change','{}',3.55853460039065594422e-03,12,NULL,NULL);
INSERT INTO "measures" VALUES(32,4,'eigenspace_overlap','{}',9.97891524895688775131e-01,12,NULL,NULL);
INSERT INTO "measures" VALUES(33,4,'eigenspace_instability','{}',5.96567899123490500389e-04,12,NULL,NULL);
INSERT INTO "measures" VALUES(34,4,'pip_loss','{}',1.62080306366080617586e+00,12,NULL,NULL);
INSERT INTO "measures" VALUES(35,4,'pip_loss_relative','{}',2.83560968374978079886e-02,12,NULL,NULL);
INSERT INTO "measures" VALUES(36,4,'neighbor_overlap@10','{}',1.0,12,1.0,1.0);
INSERT INTO "measures" VALUES(37,4,'rbo','{}',9.87096541666666715819e-01,12,9.68757714583333373603e-01,1.0);
INSERT INTO "measures" VALUES(38,4,'cross_recall@10','{}',1.0,12,1.0,1.0);
INSERT INTO "measures" VALUES(39,4,'mmd','{}',-0.0204607504847778,12,-2.3971948669014564448e-01,1.98797985720590042468e-01);
INSERT INTO "measures" VALUES(40,4,'mmd_p','{}',0.598,12,NULL,NULL);
INSERT INTO "measures" VALUES(41,5,'skewness','{}',0.0,12,NULL,NULL);
INSERT INTO "measures" VALUES(42,5,'robin_hood','{}',4.16666666666666643537e-02,12,NULL,NULL);
INSERT INTO "measures" VALUES(43,5,'gini','{}',4.86111111111111604543e-02,12,NULL,NULL);
INSERT INTO "measures" VALUES(44,5,'antihub_rate','{}',0.0,12,0.0,2.42494006655240845748e-01);
INSERT INTO "measures" VALUES(45,5,'hub_occurrence','{}',0.0,12,NULL,NULL);
INSERT INTO "measures" VALUES(46,5,'max_occurrence','{}',11.0,12,NULL,NULL);
CREATE TABLE runs (
	id INTEGER NOT NULL, 
	version_id INTEGER NOT NULL, 
	baseline_id INTEGER, 
	suite VARCHAR(64) NOT NULL, 
	suite_version INTEGER NOT NULL, 
	dataset VARCHAR(128), 
	dataset_digest VARCHAR(64), 
	params JSON NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	reason TEXT NOT NULL, 
	verdict VARCHAR(32), 
	seed INTEGER NOT NULL, 
	duration_s DOUBLE NOT NULL, 
	cache_key VARCHAR(64) NOT NULL, 
	absent JSON NOT NULL, 
	notes JSON NOT NULL, 
	items VARCHAR(64), 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_runs PRIMARY KEY (id), 
	CONSTRAINT fk_runs_baseline_id FOREIGN KEY(baseline_id) REFERENCES versions (id), 
	CONSTRAINT fk_runs_version_id FOREIGN KEY(version_id) REFERENCES versions (id)
);
INSERT INTO "runs" VALUES(1,1,NULL,'analogies',1,'google','184589a870fa045234a9abe10a4d8ba46b46a385010cdb93831e164d98a41328','{"restrict_vocab": 300000, "case_fold": true, "k": 5, "methods": ["3cosadd"], "bands": [1000, 10000, 100000]}','done','',NULL,0,0.0362842169997748,'91b3b6f1d7bd8ceda215858f44184384f2394045536a6a5404a52eeae1f98034','[]','[]','da395b62af40b9a28da79ac90ea588584a654ed1d5dc77f381b4b76000bf84ff','2026-11-22 10:43:19.497676');
INSERT INTO "runs" VALUES(2,1,NULL,'similarity',1,'pairs','d73aaa15285376121a3107960ae785c2449c4c141b230cd29331cdeaf5308815','{"restrict_vocab": 0, "case_fold": true}','done','',NULL,0,6.84437150001031113788e-01,'3f2981e561dee1c26ac7c0884c2c7140b60c70b275e95744a3d61a7513f26cff','[]','[]','1cb8aacb2cc6c040e2af61625529511475f0d19278bafc1fc734a68aaf83d02c','2026-11-22 10:43:20.194996');
INSERT INTO "runs" VALUES(3,1,NULL,'hubness',1,NULL,NULL,'{"k": 10}','done','',NULL,0,7.29593999858479946851e-03,'da05ba072a8e50446a8f4ee0b079ab468f1692d05af62c985d97862d3e4a4077','[]','["top hubs of 12 lists: ''king'' 11, ''paris'' 11, ''rome'' 11, ''dog'' 11, ''mouse'' 11"]','c3796cc7f139e840bd8badf34de75d215b9170c0fbc9082a13513bdf38975aec','2026-11-22 10:43:20.209694');
INSERT INTO "runs" VALUES(4,2,1,'drift',1,NULL,NULL,'{"k": 10, "queries": 2000, "mmd_rows": 1000, "permutations": 999, "same_direction": 1e-06, "same_norm": 0.001, "respaced": 0.05, "refined": 0.8, "rotated": 0.9}','done','','refined',0,4.11298440012615174055e-02,'1c69b564af1e3a0ecb97e1bfdd690a088e532116cd2a2540c290bd18b9caf354','[]','["refined: 1.000 of the neighbours kept beyond chance (respaced below 0.05, drifted below 0.8); mean raw cosine 0.999 (rotated below 0.9)", "moved most: woman 0.006, rome 0.001, queen 0.000, king 0.000, france 0.000"]','ef56c3cce20a96b4fa9d824d81e550dd7e84baef00cbfd288594fdd01a9c5aca','2026-11-22 10:43:21.368520');
INSERT INTO "runs" VALUES(5,3,NULL,'hubness',1,NULL,NULL,'{"k": 10}','done','',NULL,0,0.141167307003343,'b8904c7c888e68b1de84a822fea20be5f10250beb5f8888c0132231c70af3cd1','[]','["top hubs of 12 lists: ''queen'' 11, ''man'' 11, ''france'' 11, ''italy'' 11, ''cat'' 11"]','6e7d291da04226d8a358a4a90543f8a678cbca0d1569b88d69176cf21c693640','2026-11-22 10:43:26.129881');
CREATE TABLE verdicts (
	id INTEGER NOT NULL, 
	version_id INTEGER NOT NULL, 
	baseline_id INTEGER, 
	version_digest VARCHAR(64) NOT NULL, 
	baseline_digest VARCHAR(64), 
	passed BOOLEAN NOT NULL, 
	config_digest VARCHAR(64) NOT NULL, 
	checks JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_verdicts PRIMARY KEY (id), 
	CONSTRAINT fk_verdicts_baseline_id FOREIGN KEY(baseline_id) REFERENCES versions (id), 
	CONSTRAINT fk_verdicts_version_id FOREIGN KEY(version_id) REFERENCES versions (id)
);
INSERT INTO "verdicts" VALUES(1,2,1,'f499b1d6be95fc877446f36a8059cd9d823021f809e3c65ef089920b40c36479','457be3d3029afa3840500947a42a279d3fc9a7f96caf3ef843a0d6535c047b4d',1,'51f1fa989dec3bfebbd5bb73fb4923114013b79f7611c03b83f1dc0d3dea6559','[{"metric": "drift.neighbor_overlap@10", "labels": {}, "value": 1.0, "baseline": null, "bound": ">= 0", "outcome": "passed", "reason": "within bounds", "severity": "critical", "p_value": null, "n": 12, "low": 1.0, "high": 1.0}]','2026-11-22 10:43:22.387938');
CREATE TABLE version_blobs (
	version_id INTEGER NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	CONSTRAINT pk_version_blobs PRIMARY KEY (version_id, digest), 
	CONSTRAINT fk_version_blobs_version_id FOREIGN KEY(version_id) REFERENCES versions (id)
);
INSERT INTO "version_blobs" VALUES(1,'31220247498fc5ffd7032d6d518cbc82e138fba23ad055eae25797a4f613f3e2');
INSERT INTO "version_blobs" VALUES(1,'457be3d3029afa3840500947a42a279d3fc9a7f96caf3ef843a0d6535c047b4d');
INSERT INTO "version_blobs" VALUES(2,'170c3177d4d136474cc4a5b9e8e4e885d43b5534ff933a8512c7577d6036bee6');
INSERT INTO "version_blobs" VALUES(2,'f499b1d6be95fc877446f36a8059cd9d823021f809e3c65ef089920b40c36479');
INSERT INTO "version_blobs" VALUES(3,'26633fe403ce09cfe881cf47a07432dcfdb04484c319e7f47e8b98d7b69bc113');
INSERT INTO "version_blobs" VALUES(3,'601685593904d0c7ab9b86605674489689397e6f5a926de27eaf9a8d2f6079be');
INSERT INTO "version_blobs" VALUES(4,'21f7d715d2735716ac9c789dbdda3825f8d9706080314d9fd39113887722de85');
INSERT INTO "version_blobs" VALUES(4,'4f7d4fb1cb45788669c06b3bd2f9405dd6046e9e4a293d68f58d3abb406962eb');
CREATE TABLE versions (
	id INTEGER NOT NULL, 
	embedding_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	content_digest VARCHAR(64) NOT NULL, 
	rows INTEGER NOT NULL, 
	nbytes INTEGER NOT NULL, 
	space JSON NOT NULL, 
	statistics JSON NOT NULL, 
	message TEXT NOT NULL, 
	source TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	created_by VARCHAR(256) NOT NULL, 
	deleted_at DATETIME, probes VARCHAR(64), 
	CONSTRAINT pk_versions PRIMARY KEY (id), 
	CONSTRAINT fk_versions_embedding_id FOREIGN KEY(embedding_id) REFERENCES embeddings (id), 
	CONSTRAINT uq_versions_number UNIQUE (embedding_id, number)
);
INSERT INTO "versions" VALUES(1,1,1,'457be3d3029afa3840500947a42a279d3fc9a7f96caf3ef843a0d6535c047b4d','ab9974c929702f79922387424548a73fb0e9fd1da090a81b1d336a25a57d846f',12,1578,'{"dim": 8, "dtype": "float32", "metric": "cosine", "kind": "word", "normalised": false, "model": null, "tokenizer": null, "pooling": null, "position": null, "tied": null, "transform": null, "tags": {}}','{"norm_mean": 2.6596146338764006, "norm_std": 0.5924996755642513, "norm_min": 1.8626530065989058, "norm_max": 3.526465626654966, "zero_rows": 0, "dropped_rows": 0}','first','v1.jsonl','2026-11-22 10:43:12.528891','ada@example',NULL,NULL);
INSERT INTO "versions" VALUES(2,1,2,'f499b1d6be95fc877446f36a8059cd9d823021f809e3c65ef089920b40c36479','2300da181a0e840345f333af4409a7d172a780a086bf7c83079cca2303f66651',12,1578,'{"dim": 8, "dtype": "float32", "metric": "cosine", "kind": "word", "normalised": false, "model": null, "tokenizer": null, "pooling": null, "position": null, "tied": null, "transform": null, "tags": {}}','{"norm_mean": 2.651792872776332, "norm_std": 0.6032130309648306, "norm_min": 1.789897806990557, "norm_max": 3.526465626654966, "zero_rows": 0, "dropped_rows": 0}','second','v2.jsonl','2026-11-22 10:43:13.515332','ada@example',NULL,NULL);
INSERT INTO "versions" VALUES(3,2,1,'601685593904d0c7ab9b86605674489689397e6f5a926de27eaf9a8d2f6079be','75c5dbb572fe6b2d927fcb0e5c66b23499ba68ae650acb061c4b5c14eb7cbd6d',12,1578,'{"dim": 8, "dtype": "float32", "metric": "cosine", "kind": "word", "normalised": false, "model": null, "tokenizer": null, "pooling": null, "position": null, "tied": null, "transform": "f47c5abd5598a92471495429e7cdb751753e86752bb9d7e4e81894d276b66b08", "tags": {}}','{"norm_mean": 2.6738456989829302, "norm_std": 0.428815195191809, "norm_min": 1.629621243615842, "norm_max": 3.162314452506772, "zero_rows": 0, "dropped_rows": 0}','','whiten of words@2','2026-11-22 10:43:24.743993','ada@example',NULL,NULL);
INSERT INTO "versions" VALUES(4,1,3,'21f7d715d2735716ac9c789dbdda3825f8d9706080314d9fd39113887722de85','c2d046e2ae5557794478d9ff917bd271e0baee3303b7f18d5ff6c1873a5f7305',10,1474,'{"dim": 8, "dtype": "float32", "metric": "cosine", "kind": "word", "normalised": false, "model": null, "tokenizer": null, "pooling": null, "position": null, "tied": null, "transform": null, "tags": {}}','{"norm_mean": 2.670461500084517, "norm_std": 0.6426570270131583, "norm_min": 1.8626530065989058, "norm_max": 3.526465626654966, "zero_rows": 0, "dropped_rows": 0}','','v3.jsonl','2026-11-22 10:43:28.148962','ada@example','2026-11-22 10:43:29.029441',NULL);
CREATE INDEX ix_datasets_kind ON datasets (kind);
CREATE INDEX ix_events_embedding ON events (embedding);
CREATE INDEX ix_versions_content_digest ON versions (content_digest);
CREATE INDEX ix_versions_digest ON versions (digest);
CREATE INDEX ix_versions_embedding_id ON versions (embedding_id);
CREATE INDEX ix_alias_moves_embedding_id ON alias_moves (embedding_id);
CREATE INDEX ix_aliases_embedding_id ON aliases (embedding_id);
CREATE INDEX ix_aliases_version_id ON aliases (version_id);
CREATE INDEX ix_indexes_embedding_id ON indexes (embedding_id);
CREATE INDEX ix_runs_baseline_id ON runs (baseline_id);
CREATE INDEX ix_runs_cache_key ON runs (cache_key);
CREATE INDEX ix_runs_suite ON runs (suite);
CREATE INDEX ix_runs_version_id ON runs (version_id);
CREATE INDEX ix_verdicts_version_digest ON verdicts (version_digest);
CREATE INDEX ix_verdicts_version_id ON verdicts (version_id);
CREATE INDEX ix_version_blobs_digest ON version_blobs (digest);
CREATE INDEX ix_builds_index_id ON builds (index_id);
CREATE INDEX ix_builds_version_id ON builds (version_id);
CREATE INDEX ix_measures_run_id ON measures (run_id);
CREATE INDEX ix_derived_parent_id ON derived (parent_id);
CREATE INDEX ix_derived_target_id ON derived (target_id);
CREATE INDEX ix_derivations_embedding_id ON derivations (embedding_id);
CREATE INDEX ix_externals_embedding_id ON externals (embedding_id);
COMMIT;
